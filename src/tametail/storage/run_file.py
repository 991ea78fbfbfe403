"""run.json: what a run of a study is, and how its training ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tametail.core.atomic import write_atomically
from tametail.core.errors import DataError
from tametail.core.json_file import read_json
from tametail.core.regular_file import regular
from tametail.core.run_files import DESCRIPTION
from tametail.storage.schema import Count, Name, Number, Seed, Strict, Text, damage

FILES = "files"  # key of run.json: digests of the files of the run


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
    files: Annotated[dict[Name, Text], Field(max_length=20)] = {}


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


def write_run_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write a run.json in one step; raises as `tametail.core.atomic.write_atomically` does."""
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def intact(path: Path) -> Path:
    """Return the path of a file of a run, after a check that it is the one that the run wrote.

    Files whose digest is not in run.json are not checked: those of a copy made by `tametail share`.

    Raises:
        DataError: it was changed or exchanged since, or cannot be read.
    """
    expected = read_run_file(path.parent / DESCRIPTION).get(FILES, {}).get(path.name)
    try:
        found = file_digest(path) if expected is not None else None
    except OSError as error:
        raise DataError(f"expected a file of a run at {path}, but it cannot be read: {error}") from error
    if found != expected:
        raise DataError(
            f"expected {path} as its run wrote it, but it was changed or exchanged since (its digest is not that in "
            f"{DESCRIPTION}); restore it from a copy, or remove {path.parent}, and tametail resume trains the run again"
        )
    return path
