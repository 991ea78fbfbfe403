"""study.json and the files next to it: what a study is, where its images are, and its test-set evaluations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tametail.core import removal
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.json_file import read_json
from tametail.core.run_files import EVALUATION, TEST_PREDICTIONS, UNLIKENESS, is_finished, is_run_file
from tametail.predictions.parquet import read_metadata
from tametail.storage.identity import FolderKind, check_same, read_settings, write_settings
from tametail.storage.json_lines import append_line, read_lines
from tametail.storage.locks import LOCK
from tametail.storage.schema import Count, Name, Strict, Text, damage
from tametail.storage.study_schema import OtherSplits, damage_of_study

TEST_SET_EVALUATIONS = "test_set_evaluations.jsonl"
TEST_SET_LOOKS = "test_set_looks.jsonl"  # predictions of held-out images outside an evaluation
_MOST_EVALUATIONS = 10_000
DIGESTS_FILE = "digests.parquet"  # by which images are recognised later
WORK_FOLDER = ".work"  # locks and progress of workers while they work, and blocks of features that they share
UNITS_FILE = "units.jsonl"  # the plan, see `tametail.study.units`
SOURCE_FILE = "source.json"  # the folder of the images
SHARED = "shared"  # key of study.json: a copy without weights and names, made by tametail share
CHECKPOINT = ".checkpoint"  # suffix of the folder with an unfinished run
# Of a run, or of the first of a stack, see `tametail.training.heads.execute_heads`.
_CHECKPOINTS = re.compile(rf"\.(seed\d+-(?:fold\d+|all))(?:-[0-9a-f]{{16}})?{re.escape(CHECKPOINT)}")
_LOCKS = r"lock(?:\.soft|\.json)?"
_BLOCK = r"[0-9a-f]{32}-\d+"
_WORK_FILES = re.compile(
    rf"unit-\d+\.(?:jsonl|{_LOCKS})|jobs\.jsonl|job-[\w.-]+|{_BLOCK}\.safetensors|\.{_BLOCK}\.{_LOCKS}"
)
# What workers restore the inputs of trainings from.
INPUT_FILES = frozenset({"table.parquet", "splits.csv", DIGESTS_FILE, SOURCE_FILE, "backbone.safetensors"})
STUDY_FOLDER = FolderKind(
    "a study",
    "study.json",
    "tametail compare",
    frozenset({*INPUT_FILES, UNITS_FILE, UNLIKENESS, LOCK}),
)


class _Evaluation(Strict):
    """One line about an evaluation of the test set: its beginning, or its end."""

    evaluation: Annotated[int, Field(ge=1, le=_MOST_EVALUATIONS)]
    time: Text = ""
    methods: Annotated[list[Name], Field(max_length=100_000)] = []
    runs: Count | None = None
    new_runs: Count | None = None
    best_out_of_fold: Text | None = None
    finished: bool | None = None
    other_splits: OtherSplits | None = None


class _Look(Strict):
    """One line about predictions of held-out images."""

    time: Text = ""
    command: Text
    images: Annotated[dict[Text, Count], Field(max_length=100)]


def read_study_file(directory: Path) -> dict[str, Any]:
    """Read study.json.

    Raises:
        DataError: the folder is absent, holds no study, a damaged one, or one of another schema.
    """
    content = read_settings(directory, STUDY_FOLDER)
    if found := damage_of_study(content):
        raise DataError(
            f"expected a study at {directory}, but its {STUDY_FOLDER.file} is damaged ({found}); restore it from a copy"
        )
    return content


def remembered_root(directory: Path) -> Path | None:
    """The folder of the study's images as last recorded; None if it is not known."""
    try:
        root = Path(read_json(directory / SOURCE_FILE)["image_root"])
        _ = root.is_dir()  # an error where it cannot be a path, as it is too long; it may be absent
        return root
    except (OSError, ValueError, KeyError, TypeError):
        return None


def refuse_shared(directory: Path, described: Mapping[str, Any]) -> None:
    """Refuse a copy made by ``tametail share`` where weights or images are needed.

    Raises:
        UsageError: it is one.
    """
    if described.get(SHARED):
        raise UsageError(
            f"expected a study with its weights and images, but {directory} is a copy made by tametail share, which only "
            f"tametail report and tametail rank read; use the study that it was made of"
        )


def folds_to_run(described: Mapping[str, Any]) -> list[int]:
    """The folds of a study that are trained and evaluated: all folds, unless the study was limited to some."""
    return list(described.get("run_folds") or range(described["splits"]["folds"]))


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files of killed processes and checkpoints of finished runs, as far as possible.

    Call it only while the study's lock is held.
    """
    top = directory.resolve()

    def is_stale(path: Path) -> bool:
        found = _CHECKPOINTS.fullmatch(path.name)
        return (
            found is not None and path.parent.parent == top / "runs" and is_finished(path.with_name(found[1]))
        )

    removal.remove_leftovers(top, depth=3, is_stale=is_stale, is_own=is_run_file)


def remove_work_folder(directory: Path) -> None:
    """Remove what workers leave of units that nobody works on any more, as far as possible."""
    removal.remove(
        directory / WORK_FOLDER,
        is_own=lambda name: _WORK_FILES.fullmatch(name) is not None or removal.is_temporary(name),
    )


def check_same_study(directory: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse to continue another study; a folder without a study is fine.

    Raises:
        UsageError: the folder holds another study; the message names what differs.
        DataError: the folds of its repeats cannot be drawn again.
    """
    if (directory / STUDY_FOLDER.file).is_file():
        present = read_study_file(directory)
        check_same(f"{directory} holds another study", present, wanted)
        redrawn = present.get("redrawn_folds", [])
        if wanted.get("redrawn_folds", [])[: len(redrawn)] != redrawn:
            raise DataError(
                f"the folds of the repeats in {directory} cannot be drawn again, as another version of scikit-learn draws "
                f"others; finish the study with tametail resume, or start a new one in another folder"
            )


def create_or_extend_study(directory: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Write study.json; methods, seeds and folds of an existing study are kept, and new ones added.

    So are the order of its classes, unless another one is wanted, and what was known of other splits when it was made.

    Raises:
        TametailError: it cannot be written; the previous content is kept.
    """
    if (directory / STUDY_FOLDER.file).is_file():
        present = read_study_file(directory)
        present["run_folds"] = folds_to_run(present)
        for key in ("methods", "seeds", "run_folds"):
            new = (item for item in wanted[key] if item not in present[key])
            wanted = wanted | {key: [*present[key], *new]}
        wanted = {key: present[key] for key in ("class_order", "other_splits") if key in present} | wanted
        packages = {*present.get("packages", ()), *wanted.get("packages", ())}
        wanted = wanted | {"packages": sorted(packages)}
        if "tuned" in present:
            wanted = wanted | {"tuned": present["tuned"] | wanted.get("tuned", {})}
    write_settings(directory, STUDY_FOLDER, wanted)
    return wanted


def read_test_set_evaluations(directory: Path) -> list[dict[str, Any]]:
    """The test-set evaluations, oldest first: those recorded, and those that only the test predictions of runs show.

    The latter have ``"missing": True`` in place of their facts.

    Raises:
        DataError: the record exists and cannot be read.
    """
    recorded: dict[int, dict[str, Any]] = {}
    with _reading(directory / TEST_SET_EVALUATIONS, "test-set evaluations"):
        for entry in read_lines(directory / TEST_SET_EVALUATIONS):
            if found := damage(_Evaluation, entry):
                raise ValueError(found)
            begun = recorded.setdefault(entry["evaluation"], entry)
            begun |= {"finished": entry["finished"]} if "finished" in entry else {}
        shown = [
            _evaluation((read_metadata(path) or {}).get(EVALUATION, 1))
            for path in directory.glob(f"runs/*/*/{TEST_PREDICTIONS}")
        ]
    last = max([0, *recorded, *shown])
    return [recorded.get(number, {"evaluation": number, "missing": True}) for number in range(1, last + 1)]


def record_test_set_evaluation(directory: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add one line to the record of test-set evaluations, on disk before any test image is predicted.

    Call it only while the study's lock is held. An evaluation of the same methods and runs that was interrupted is continued: no line is added.

    Raises:
        DataError: see `read_test_set_evaluations`.
        TametailError: the record cannot be written; the previous content is kept.
    """
    before = read_test_set_evaluations(directory)
    interrupted = before and before[-1].get("finished") is False
    if interrupted and all(before[-1].get(key) == facts.get(key) for key in ("methods", "runs")):
        return before[-1]
    entry = {"evaluation": len(before) + 1, **facts, "finished": False}
    _append(directory / TEST_SET_EVALUATIONS, entry, alone=True)
    return entry


def begun_evaluation(directory: Path) -> int:
    """The number of the test-set evaluation that is recorded as begun, and not as finished.

    Raises:
        UsageError: there is none.
        DataError: see `read_test_set_evaluations`.
    """
    recorded = read_test_set_evaluations(directory)
    if not recorded or recorded[-1].get("finished") is not False:
        raise UsageError(
            f"expected a test-set evaluation of {directory} that has begun, found none; tametail test-set {directory} --engine plan "
            f"begins and records one"
        )
    return int(recorded[-1]["evaluation"])


def finish_test_set_evaluation(directory: Path, number: int) -> None:
    """Record that an evaluation is finished, so that the next one is another.

    Raises:
        TametailError: the record cannot be written.
    """
    _append(directory / TEST_SET_EVALUATIONS, {"evaluation": number, "finished": True}, alone=True)


def read_test_set_looks(directory: Path) -> list[dict[str, Any]]:
    """The record of predictions of held-out images outside a test-set evaluation, oldest first.

    Raises:
        DataError: the record exists and cannot be read.
    """
    with _reading(directory / TEST_SET_LOOKS, "predictions of held-out images"):
        entries = read_lines(directory / TEST_SET_LOOKS)
        for entry in entries:
            if found := damage(_Look, entry):
                raise ValueError(found)
        return entries


def record_test_set_look(directory: Path, command: str, recognised: Mapping[str, int]) -> None:
    """Record that a command predicted held-out images, or evaluated their predictions.

    Args:
        command: its name.
        recognised: number of these images by how they were recognised.

    Raises:
        TametailError: the record cannot be written.
    """
    _append(directory / TEST_SET_LOOKS, {"command": command, "images": dict(recognised)})


def _evaluation(number: object) -> int:
    """The number of an evaluation; all up to the last one are listed, so that it must be a plausible one."""
    if type(number) is not int or not 1 <= number <= _MOST_EVALUATIONS:
        raise ValueError(f"expected the number of an evaluation, up to {_MOST_EVALUATIONS:,}, found {number}")
    return number


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"expected the record of {what} at {path}, one JSON object per line, but it cannot be read: {error}; fix the "
            f"line, or restore the file from a copy"
        ) from error


def _append(path: Path, entry: Mapping[str, Any], *, alone: bool = False) -> None:
    with explain_save_error(path):
        append_line(path, entry, alone=alone)
