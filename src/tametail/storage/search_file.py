"""search.json: the settings of a search and its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError, UsageError
from tametail.storage.identity import IDENTITY, FolderKind, check_same, read_settings, write_settings
from tametail.storage.study_file import INPUT_FILES
from tametail.storage.study_schema import damage_of_search

TRIALS, PAGE = "trials.csv", "search.html"
JOURNAL, TRAININGS = "trials.journal", "trainings"
SEARCH_FOLDER = FolderKind(
    "a search", "search.json", "tametail search", frozenset({TRIALS, PAGE, JOURNAL, TRAININGS, *INPUT_FILES})
)
SEARCH_KEYS = (  # they fix the result
    "method", "space", "class_order", "sampler", "halving", "metric", "seeds", "seed",
)  # fmt: skip


def read_search(directory: Path) -> dict[str, Any]:
    """Read search.json.

    Raises:
        DataError: the folder is absent, holds no search or one of another schema, or search.json is damaged.
    """
    content = read_settings(directory, SEARCH_FOLDER)
    if found := damage_of_search(content):
        raise DataError(
            f"expected a search at {directory}, but its {SEARCH_FOLDER.file} is damaged ({found}); restore it from a copy, or "
            f"search again in another folder"
        )
    return content


def identity(content: Mapping[str, Any]) -> str:
    """A digest of the settings in search.json that fix the trials; the number of trials is not among them."""
    parts = [content.get(key) for key in IDENTITY], [content["search"][key] for key in SEARCH_KEYS]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def read_finished(directory: Path) -> dict[str, Any]:
    """Read search.json of a finished search.

    Raises:
        DataError: see `read_search`.
        UsageError: the search is not finished.
    """
    content = read_search(directory)
    if content.get("result") is None:
        raise UsageError(
            f"expected a finished search at {directory}, but it was interrupted; repeat its tametail search command"
        )
    return content


def create_or_extend_search(directory: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Start a search, or continue the existing one, possibly with more trials.

    Returns:
        The content of search.json, without a result if trials remain to be done.

    Raises:
        UsageError: the folder holds another search; the message names what differs.
        TametailError: it cannot be written.
    """
    if (directory / SEARCH_FOLDER.file).is_file():
        present = read_search(directory)
        check_same_data(directory, present, wanted)
        check_same(f"{directory} holds another search", present["search"], wanted["search"], SEARCH_KEYS)
        if present["search"]["trials"] >= wanted["search"]["trials"]:
            return present
        # The settings that fix the trials stay as written, and so does their digest.
        kept = {key: value for key, value in present.items() if key != "result"}
        wanted = kept | {"search": wanted["search"]}
    write_settings(directory, SEARCH_FOLDER, wanted)
    return wanted


def check_same_data(directory: Path, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a search of other data, splits or recipe than the ones wanted.

    Raises:
        UsageError: it names what differs.
    """
    check_same(
        f"{directory} is a search on another study",
        present,
        wanted,
        advice="give the same data, splits and recipe, or another folder",
    )
