"""search.json: what a search is and what it found; read by the report and by whoever uses the values. Without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import DataError, TametailError, UsageError, explain_save_error
from tametail.storage.study_file import IDENTITY

FORMAT = 1
NAME, TRIALS, PAGE = "search.json", "trials.csv", "search.html"
JOURNAL, TRAININGS = "trials.journal", "trainings"
_OURS = {NAME, TRIALS, PAGE, JOURNAL, TRAININGS}
ASKED = (
    "method",
    "space",
    "sampler",
    "halving",
    "metric",
    "seeds",
    "seed",
)  # what of the search fixes its result
_WAY_OUT = "put it back from a copy, or search anew in another folder"


def read_search(directory: Path) -> dict[str, Any]:
    """The content of search.json.

    Raises:
        DataError: the folder is absent, holds no search or one of a later format, or search.json is damaged.
    """
    try:
        content = json.loads((directory / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"expected a search at {directory} (a folder with {NAME}); make one with tametail search"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a search at {directory}, but its {NAME} cannot be read: {error}; {_WAY_OUT}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(
            f"expected a search of format {FORMAT} at {directory}, made by this version of tametail; {_WAY_OUT}"
        )
    asked = content.get("search")
    lacking = [key for key in ASKED if not isinstance(asked, dict) or key not in asked]
    lacking += [key for key in ("table", "splits", "recipe") if not isinstance(content.get(key), dict)]
    if lacking or not isinstance(asked, dict) or not isinstance(asked.get("trials"), int):
        raise DataError(
            f"expected a search at {directory}, but its {NAME} is damaged: it does not say {', '.join(lacking) or 'trials'}; {_WAY_OUT}"
        )
    return content


def identity(content: Mapping[str, Any]) -> str:
    """A digest of all that fixes what a search's trials are, and so not of how many there are.

    Args:
        content: of search.json.
    """
    parts = [content.get(key) for key in IDENTITY], [content["search"][key] for key in ASKED]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def read_finished(directory: Path) -> dict[str, Any]:
    """The content of search.json, of a search that is done.

    Raises:
        DataError: see `read_search`.
        UsageError: it is not done.
    """
    content = read_search(directory)
    if not isinstance(content.get("result"), dict):
        raise UsageError(
            f"expected a finished search at {directory}, but it was interrupted; repeat its tametail search command"
        )
    return content


def prepare_directory(directory: Path) -> None:
    """Make the output folder, and check that it can be written and is no one else's.

    Raises:
        TametailError: it cannot be written.
        UsageError: it holds something that is not a search.
    """
    try:
        make_folder(directory)
        probe = directory / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
        there = [entry.name for entry in directory.iterdir()]
    except OSError as error:
        raise TametailError(
            f"the output folder {directory} cannot be written ({error.strerror or error}); give another one with -o"
        ) from error
    foreign = sorted(name for name in there if name not in _OURS and not name.startswith("."))
    if foreign and NAME not in there:
        raise UsageError(
            f"expected an empty folder or a search at {directory}, found {', '.join(foreign[:3])}; give another one with -o"
        )


def create_or_extend(
    directory: Path, wanted: dict[str, Any], completed: Callable[[Any], dict[str, Any]] = dict
) -> dict[str, Any]:
    """Begin a search, or go on with the one that is there, whose trials may only become more.

    Args:
        completed: a recipe that an older version wrote, with the fields that it did not know.

    Returns:
        The content of search.json: without a result where there is something left to do.

    Raises:
        UsageError: the folder holds another search; the message names what differs.
        TametailError: it cannot be written.
    """
    if (directory / NAME).is_file():
        present = read_search(directory)
        check_same(directory, present, wanted, IDENTITY, completed)
        for key in ASKED:
            if present["search"].get(key) != wanted["search"][key]:
                raise UsageError(
                    f"{directory} holds another search: its {key} is {_told(present['search'].get(key))}, asked for is "
                    f"{_told(wanted['search'][key])}; give another folder with -o"
                )
        if present["search"]["trials"] >= wanted["search"]["trials"]:
            return present
        # What fixes the trials stays as it was written, and so does the digest of it.
        wanted = {key: value for key, value in present.items() if key != "result"} | {
            "search": wanted["search"]
        }
    write(directory, wanted)
    return wanted


def check_same(
    directory: Path,
    present: Mapping[str, Any],
    wanted: Mapping[str, Any],
    keys: tuple[str, ...],
    completed: Callable[[Any], dict[str, Any]] = dict,
) -> None:
    """Refuse a search of other data, splits or recipe than those that are wanted.

    Raises:
        UsageError: it names what differs.
    """
    for key in keys:
        of_both = present.get(key), wanted.get(key)
        if key == "recipe":
            of_both = completed(of_both[0]), of_both[1]
        if of_both[0] != of_both[1]:
            name, one, other = _difference(key, *of_both)
            raise UsageError(
                f"{directory} is a search of another study: its {name} is {_told(one)}, asked for is {_told(other)}; give the "
                "same data, splits and recipe, or another folder"
            )


def write(directory: Path, content: Mapping[str, Any]) -> None:
    """Write search.json in one step.

    Raises:
        TametailError: it cannot be written; what was there before is kept.
    """
    with explain_save_error(directory / NAME):
        write_atomically(directory / NAME, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _difference(key: str, present: Any, wanted: Any) -> tuple[str, Any, Any]:
    if isinstance(present, Mapping) and isinstance(wanted, Mapping):
        for inner in wanted:
            if present.get(inner) != wanted[inner]:
                return _difference(f"{key}.{inner}", present.get(inner), wanted[inner])
    return key, present, wanted


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
