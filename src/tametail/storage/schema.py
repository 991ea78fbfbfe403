"""What the JSON files of results must hold: values of exactly these types, in these ranges, so that damage is named with its place."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tametail.core.invalid import first_error

Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=10_000)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float, Field(allow_inf_nan=True)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Values of exactly these types; other fields are allowed, as plug-ins and later versions may add them."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Interval(Strict):
    """An estimate with its interval, see `tametail.evaluation.Estimate`."""

    value: Number | None
    low: Number | None
    high: Number | None
    n: Count


def damage(model: type[Strict], content: Any) -> str:
    """What is wrong in a content: the first field, and what was expected of it; empty if nothing is."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        return first_error(error)
    except RecursionError:
        return "it is nested too deeply"
    return ""
