"""What a check of values by pydantic found, in words."""

from __future__ import annotations

from pydantic import ValidationError

from tametail.core.text import quoted


def first_error(error: ValidationError) -> str:
    """The first value that is wrong, with its place, what was expected and what was found."""
    found = error.errors(include_url=False)[0]
    place = ".".join(map(str, found["loc"]))
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] in {"missing", "value_error"} or not place:
        return f"{place}: {message}" if place else message
    return f"{place}: {message}, got {quoted(found['input'])}"
