"""run.json: what a run of a study is, and how its training ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tametail.core.errors import DataError
from tametail.core.json_file import read_json
from tametail.storage.schema import Count, Name, Number, Seed, Strict, Text, damage


class _Convergence(Strict):
    converged: bool
    gradient: Number
    iterations: Count
    objective: Number
    l2: Number
    start: Text
    starts: Annotated[dict[Text, Annotated[float, Field(gt=0)]], Field(max_length=100)]
    l2_scores: Annotated[dict[Text, Number], Field(max_length=10_000)] = {}


class _Run(Strict):
    method: Name
    seed: Seed
    fold: Count
    status: Text
    message: Text = ""
    link: Text = ""
    parameters: dict[Text, Any] = {}
    recipe: dict[Text, Any] = {}
    class_counts: Annotated[dict[Name, Count], Field(max_length=100_000)] = {}
    images: Count | None = None
    environment: Annotated[dict[Text, Text | int], Field(max_length=100)] = {}
    seconds: Annotated[float, Field(ge=0)] = 0.0
    still_falling: bool = False
    trained_with: Annotated[list[Name], Field(max_length=100_000)] = []
    convergence: _Convergence | None = None
    micro_batch: Count | None = None


def read_run_file(path: Path) -> dict[str, Any]:
    """Read a run.json.

    Raises:
        DataError: it is absent or damaged.
    """
    try:
        content = read_json(path)
        if found := damage(_Run, content):
            raise ValueError(found)
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected the description of a run at {path}, but it cannot be read: {error}; remove the folder of the run, and "
            f"tametail resume trains it again"
        ) from error
    described: dict[str, Any] = content
    return described
