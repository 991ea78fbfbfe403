"""study.json: what a study is, written once, and the refusal to mix two studies in one folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tametail.core.atomic import is_temporary, make_folder, write_atomically
from tametail.core.errors import DataError, TametailError, UsageError, explain_save_error
from tametail.core.run_files import is_finished

FORMAT = 1
NAME = "study.json"
TEST_SET_EVALUATIONS = "test_set_evaluations.jsonl"
SOURCE = "source.json"  # where the images lie
CHECKPOINT = ".checkpoint"  # how the folder ends in which an unfinished run is kept
_LOCK = ".lock"
_BEGUN = {
    NAME,
    "table.parquet",
    "splits.csv",
    SOURCE,
    "backbone.safetensors",
    _LOCK,
}  # what a study that was killed at its start may leave
IDENTITY = (  # what of study.json fixes the results; in this order it is a part of what checkpoints are known by
    "table",
    "class_names",
    "splits",
    "recipe",
    "backbone",
    "weights_digest",
    "image_size",
    "canvas",
)


def read_study_file(directory: Path) -> dict[str, Any]:
    """The content of study.json.

    Raises:
        DataError: the folder is absent or holds no study, or one of a later format.
    """
    try:
        content = json.loads((directory / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"expected a study at {directory} (a folder with {NAME}); make one with tametail compare"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"expected a study at {directory}, but its {NAME} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(
            f"expected a study of format {FORMAT} at {directory}, made by this version of tametail"
        )
    return content


def prepare_directory(
    directory: Path, marker: str = NAME, begun: Collection[str] = _BEGUN, called: str = "a study"
) -> None:
    """Make the output folder, and check that it can be written and is no one else's.

    Args:
        marker: the file by which a folder is known to be of the right kind, whatever else it holds.
        begun: what one that was killed at its start may leave.
        called: what the folder may hold, in words.

    Raises:
        TametailError: it cannot be written.
        UsageError: it holds something else.
    """
    try:
        make_folder(directory)
        probe = directory / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TametailError(
            f"the output folder {directory} cannot be written ({error.strerror or error}); give another one with -o"
        ) from error
    foreign = sorted(entry.name for entry in directory.iterdir() if not _is_ours(entry.name, begun))
    if foreign and not (directory / marker).is_file():
        raise UsageError(
            f"expected an empty folder or {called} at {directory}, found {', '.join(foreign[:3])}; give another one with -o"
        )


def _is_ours(name: str, begun: Collection[str]) -> bool:
    return name in begun or _is_temporary(name, begun)


def _is_temporary(name: str, begun: Collection[str] = _BEGUN) -> bool:
    """What a killed process may leave: ``.study.json.1234abcd.tmp``, ``splits.csv.tmp``, ``.probe.1234``."""
    return is_temporary(name) or name.lstrip(".").startswith(tuple(f"{ours}." for ours in (*begun, "probe")))


def remembered_root(directory: Path) -> Path | None:
    """The folder of the study's images as last noted; None where that is not known."""
    try:
        return Path(json.loads((directory / SOURCE).read_text(encoding="utf-8"))["image_root"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def folds_to_run(described: Mapping[str, Any]) -> list[int]:
    """The folds of a study that are trained and judged: all of them, unless it was asked for some."""
    return list(described.get("run_folds") or range(described["splits"]["folds"]))


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed process left half-written, and checkpoints of finished runs; as far as that is possible.

    Only for whoever holds the study's lock.
    """
    stale = [entry for entry in directory.iterdir() if _is_temporary(entry.name)]
    stale += [*directory.glob("runs/*/.*"), *directory.glob("runs/*/*/.*")]
    for entry in stale:
        if entry.name.endswith(CHECKPOINT) and not is_finished(_kept_run(entry)):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink(missing_ok=True)


def _kept_run(checkpoints: Path) -> Path:
    """The run, or the first of those that are trained together, see `tametail.training.heads.head_batches`."""
    name = checkpoints.name.removeprefix(".").removesuffix(CHECKPOINT)
    return checkpoints.with_name(re.sub(r"-[0-9a-f]{16}$", "", name))


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the study for this process alone.

    Raises:
        TametailError: another process holds it, or its folder cannot be written or is on a file system without locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(directory / _LOCK)
    try:
        with explain_save_error(directory / _LOCK):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise TametailError(
                    f"another process is at work on {directory}; wait for it, or give another folder with -o"
                ) from None
    except NotImplementedError as error:
        raise TametailError(
            f"expected {directory} on a file system with locks, so that no two processes write there, but it has none; "
            f"put the study on another disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_same(
    directory: Path, wanted: Mapping[str, Any], completed: Callable[[Any], dict[str, Any]] = dict
) -> None:
    """Refuse to go on with a study that is not the one wanted; a folder without a study is fine.

    Args:
        completed: a recipe that an older version wrote, with the fields that it did not know.

    Raises:
        UsageError: the folder holds another study; the message names what differs.
    """
    if not (directory / NAME).is_file():
        return
    present = read_study_file(directory)
    present["recipe"] = completed(present.get("recipe", {}))
    for key in IDENTITY:
        if present.get(key) != wanted[key]:
            difference = _difference(key, present.get(key), wanted[key])
            raise UsageError(f"{directory} holds another study: {difference}; give another folder with -o")


def create_or_extend(directory: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Write study.json; losses, seeds and folds of a study that is there are kept, and new ones added.

    Raises:
        TametailError: it cannot be written; what was there before is kept.
    """
    if (directory / NAME).is_file():
        present = read_study_file(directory)
        present["run_folds"] = folds_to_run(present)
        for key in ("methods", "seeds", "run_folds"):
            new = (item for item in wanted[key] if item not in present[key])
            wanted = wanted | {key: [*present[key], *new]}
        if "tuned" in present:
            wanted = wanted | {"tuned": present["tuned"] | wanted.get("tuned", {})}
    with explain_save_error(directory / NAME):
        write_atomically(directory / NAME, json.dumps(wanted, indent=1, ensure_ascii=False) + "\n")
    return wanted


def _difference(key: str, present: Any, wanted: Any) -> str:
    if isinstance(present, Mapping) and isinstance(wanted, Mapping):
        for inner in wanted:
            if present.get(inner) != wanted[inner]:
                return _difference(f"{key}.{inner}", present.get(inner), wanted[inner])
    return f"its {key} is {present}, asked for is {wanted}"


def read_test_set_evaluations(directory: Path) -> list[dict[str, Any]]:
    """Each time the test set was opened, oldest first.

    Raises:
        DataError: the record is there and cannot be read.
    """
    try:
        lines = (directory / TEST_SET_EVALUATIONS).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected the record of openings of the test set at {directory / TEST_SET_EVALUATIONS}, one JSON object a line, but it "
            f"cannot be read: {error}; mend the line, or put the file back from a copy"
        ) from error


def record_test_set_evaluation(directory: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add one line to the record of openings, on disk before any test image is predicted.

    Raises:
        DataError: see `read_test_set_evaluations`.
        TametailError: the record cannot be written; it is as it was before.
    """
    before = read_test_set_evaluations(directory)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"opening": len(before) + 1, "time": now, **facts}
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in (*before, entry)]
    with explain_save_error(directory / TEST_SET_EVALUATIONS):
        write_atomically(directory / TEST_SET_EVALUATIONS, "".join(lines))
    return entry
