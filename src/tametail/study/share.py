"""A copy of a study for others: its results, without paths, names and ids of images and patients.

Only known files and fields are copied, renumbered and written anew, so that nothing that a file holds besides them comes
along. The reports are not copied but made again from the copy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from tametail.core.arrays import TextArray
from tametail.core.atomic import atomic_directory, flush, make_folder
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.option import declared, takes
from tametail.core.options import CompareOptions, ShareOptions
from tametail.core.run_files import (
    DESCRIPTION,
    HEAD,
    HISTORY,
    PREDICTIONS,
    TEST_PREDICTIONS,
    TIMING,
    UNLIKENESS,
    WEIGHTS,
)
from tametail.core.text import counted, sample_of
from tametail.data import ImageTable, Splits, save_splits
from tametail.data.table import COLUMNS, UNKNOWN_COLUMN
from tametail.evaluation.subgroups import as_texts, in_ranges
from tametail.predictions.multi_label import read_label_predictions, write_label_predictions
from tametail.predictions.single_label import read_predictions, write_predictions
from tametail.report import write_report
from tametail.report.options import OPTIONS_FILE, load_options, save_options
from tametail.report.study.thumbnails import THUMBNAILS
from tametail.storage.locks import LOCK
from tametail.storage.run_file import FILES, read_run_file
from tametail.storage.study_file import (
    DIGESTS_FILE,
    SHARED,
    SOURCE_FILE,
    STUDY_FOLDER,
    TEST_SET_EVALUATIONS,
    TEST_SET_LOOKS,
    UNITS_FILE,
    folds_to_run,
    read_study_file,
    read_test_set_evaluations,
    read_test_set_looks,
)
from tametail.study.inputs import BACKBONE_FILE, TABLE_FILE, saved_table
from tametail.study.study import Study
from tametail.study.study_splits import SPLITS_FILE, study_splits
from tametail.training.heads.execute_heads import CO_TRAINED
from tametail.training.history import history_csv, read_history
from tametail.training.recipe import list_recipes, load_recipe, recorded_recipe
from tametail.training.run import places as places_of
from tametail.training.run import run_directory

if TYPE_CHECKING:
    import pandas as pd

SHARED_FILE = "shared.md"
_WRITTEN_TOGETHER = 315_532_800  # 1980: the same time for every file, as times tell when images were read

# The files of a study: copied, made again, or left out; all others are unknown.
_KNOWN = (
    STUDY_FOLDER.file, TABLE_FILE, SPLITS_FILE, TEST_SET_EVALUATIONS, TEST_SET_LOOKS, f".{TEST_SET_LOOKS}{LOCK}*", DIGESTS_FILE, OPTIONS_FILE, SOURCE_FILE, BACKBONE_FILE, UNLIKENESS, UNITS_FILE, f"{LOCK}*", SHARED_FILE,
    "report.html", "results.csv", "results_long.csv", "results.md", "results.tex", "metrics.json", "model_card.md", "calibration.json",
    "partial.md", "partial.csv", "figures/*", f"{THUMBNAILS}/*",
    *(f"runs/*/*/{name}" for name in (DESCRIPTION, PREDICTIONS, TEST_PREDICTIONS, HISTORY, TIMING, WEIGHTS, HEAD, UNLIKENESS)),
)  # fmt: skip

# The fields that are kept: a type for each value, or the fields of an object; `_numbers` for numbers by any name.
_NUMBERS = object()
_ENVIRONMENT = dict.fromkeys(("python", "torch", "timm", "device", "precision", "platform"), str)
_CONVERGENCE = dict.fromkeys(("converged", "gradient", "iterations", "objective", "l2", "starts"), _NUMBERS)
_RUN = {
    **dict.fromkeys(("method", "status", "link"), str),
    **dict.fromkeys(("seed", "fold", "images", "seconds", "still_falling"), _NUMBERS),
    "environment": {**_ENVIRONMENT, "processes": int},
    "convergence": {**_CONVERGENCE, "start": str},
}
_RUN_LEFT_OUT = (
    "parameters", "recipe", "message", "batch", CO_TRAINED, "micro_batch", FILES, "convergence: l2_scores",
)  # fmt: skip
_ESTIMATES = dict.fromkeys(
    (
        "score",
        "nested",
        "nested_balanced_accuracy",
        "nested_mean_average_precision",
        "searched_recipe",
        "trials",
    ),
    _NUMBERS,
)
_TUNED = {**_ESTIMATES, "searched": str, "metric": str}
_OTHER_SPLITS = {**dict.fromkeys(("splits", "seeds", "evaluated"), _NUMBERS), "same": bool}
_LOOK = {"time": str, "command": str, "images": _NUMBERS}
_EVALUATION = {
    **dict.fromkeys(("evaluation", "runs", "new_runs"), int),
    **dict.fromkeys(("time", "best_out_of_fold"), str),
    **dict.fromkeys(("finished", "missing"), bool),
    "methods": [str],
    "other_splits": _OTHER_SPLITS,
}
_STUDY = {
    **dict.fromkeys(("schema", "seeds", "run_folds", "image_size", "canvas", "threads", "grey"), _NUMBERS),
    **dict.fromkeys(("synthetic", "multi_label"), bool),
    **dict.fromkeys(("tametail", "backbone", "features"), str),
    **{key: [str] for key in ("class_names", "class_order", "methods", "packages")},
    "table": {"images": int, "groups": int, "bit_depth": int, "slices": str},
    "splits": {"folds": int, "seed": int, "given": bool},
    "other_splits": _OTHER_SPLITS,
}  # fmt: skip
_REPLACED = {
    "name", "recipe", "weights", "options", "findings", "tuned", "redrawn_folds", "reading", "spec", "weights_digest", SHARED,
    "table.fingerprint", "table.content", "table.unreadable", "splits.fingerprint",
}  # fmt: skip
_LEFT_OUT = """\
- the path of the images, their file names, and the codes of groups (patients): images are numbered in the order of their
  names, groups in the order of their codes, alike in every file
- the name of the data set, unless you gave one, and what its classes, groups and split were read from
- digests of the images, of the table and of the weights. Fingerprints are those of the renumbered tables: they differ from those of the study
- weights of the models and of the backbone, means and directions of features, checkpoints, the plan of units, logs of trackers, and the times of files
- runs of methods that are not compared themselves, from which others start
- figures for print and scores of unfinished methods, which `tametail report` makes again
- columns of the table by which no subgroups are reported, and the exact numbers of those by which they are
- texts of findings, failures and unreadable images, which may name files or columns; their kinds and numbers remain
- the name, the summary and the weight file of a recipe of your own"""
_REMAINS = """\
- results: labels, predictions and folds of the numbered images, number of images per group, scores, figures
- names of classes and methods, also of modules with losses of your own, and of packages
- the recipe, the backbone, versions of packages, the type of the machine, and the duration of runs
- dates of test-set evaluations and of other predictions of held-out images, and numbers of other splits"""
_NO_LONGER = """\
The copy is a study for `tametail report` and `tametail rank`. Without weights and images it cannot be resumed, extended or
evaluated on its test set, and predicts no new images. Without digests `tametail evaluate` cannot recognise its images among
those of another data set, and `tametail rank` cannot tell that the copy and its study are of the same images."""


@dataclass
class _Names:
    """Numbers in place of names, and what was left out.

    Attributes:
        images, groups: the new name by the old one, in the same order.
        fields: unknown fields, by file.
    """

    images: Mapping[str, str]
    groups: Mapping[str, str]
    fields: set[str] = field(default_factory=set)

    def of_images(self, names: TextArray) -> TextArray:
        return self._renamed(names, self.images)

    def of_groups(self, names: TextArray) -> TextArray:
        return self._renamed(names, self.groups)

    def _renamed(self, names: TextArray, known: Mapping[str, str]) -> TextArray:
        try:
            return np.array([known[name] for name in names.tolist()], dtype=np.str_)
        except KeyError:
            raise DataError(
                f"expected only images and groups of {TABLE_FILE} in the predictions and {SPLITS_FILE}, found others; "
                f"restore the study from a copy"
            ) from None

    def keep(self, content: Mapping[str, Any], fields: Mapping[str, Any], place: str) -> dict[str, Any]:
        """The known fields of an object, with values of their types."""
        kept = {}
        for name, value in content.items():
            path = f"{place}: {name}"
            wanted = fields.get(name)
            if isinstance(wanted, dict) and isinstance(value, Mapping):
                kept[name] = self.keep(value, wanted, path)
            elif wanted is not None and _fits(value, wanted):
                kept[name] = value
            else:
                self.fields.add(path)
        return kept


def _fits(value: Any, wanted: Any) -> bool:
    if value is None:
        return True
    if wanted is _NUMBERS:
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
        return isinstance(value, int | float) if inner is None else all(_fits(one, _NUMBERS) for one in inner)
    if isinstance(wanted, list):
        return isinstance(value, list) and all(isinstance(one, wanted[0]) for one in value)
    return isinstance(wanted, type) and isinstance(value, wanted)


@takes(ShareOptions)
def share(
    study: str | Path, copy: str | Path, *, console: Console | None = None, **options: Unpack[ShareOptions]
) -> Study:
    """Write a copy of a study without paths, names and ids, in one step; shared.md in it says what was left out.

    Args:
        study: the study's folder.
        copy: a new or empty folder outside the study.
        console: for what was left out, by name; None for silence.
        options: see below.

    Returns:
        The copy. `tametail.report` and `tametail.rank` read it; its results are those of the study.

    Raises:
        UsageError: ``copy`` is not empty, or in the study.
        DataError: there is no study, or one of its files is damaged.
        TametailError: the copy cannot be written.
    """
    console = console or Console(quiet=True)
    directory, target = Path(study), Path(copy)
    described = read_study_file(directory)
    if target.resolve().is_relative_to(directory.resolve()):
        raise UsageError(
            f"expected a folder for the copy outside of {directory}, got {target}; give another one"
        )
    _check_empty(target)
    name, thumbnails = options["name"] or "study", options["with_thumbnails"]
    # What others put into the folder meanwhile is not the program's own.
    with explain_save_error(target), atomic_directory(target.resolve(), lambda _: False) as made:
        known = _copy(directory, made, described, name, thumbnails)
        unknown = _unknown_files(directory)
        text = _explained(thumbnails, load_options(made).by, len(unknown), len(known.fields))
        (made / SHARED_FILE).write_text(text, encoding="utf-8")
        for path in made.rglob("*"):
            os.utime(path, (_WRITTEN_TOGETHER, _WRITTEN_TOGETHER))
            flush(path)
        _check_empty(target)
    for kind, found in (("files", unknown), ("fields", sorted(known.fields))):
        if found:
            console.warn(f"unknown {kind}, which are not copied: {sample_of(found, most=20)}")
    console.say(
        f"{counted(len(known.images), 'image')} and {counted(len(known.groups), 'group')} are numbered. Left out: the path, "
        f"names and digests of the images, group codes, weights, logs{'' if thumbnails else ', thumbnails'}; kept: results, "
        f"names of classes and methods{''.join(f', subgroups by {each}' for each in load_options(target).by)}. "
        f"{SHARED_FILE} has the whole list."
    )
    return Study(target)


def _check_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"expected a new or empty folder for the copy, got {target}; give another one")


def _copy(directory: Path, copy: Path, described: Mapping[str, Any], name: str, thumbnails: bool) -> _Names:
    """Write the copy, with its report."""
    frame, options = saved_table(directory, described, ".").frame, load_options(directory)
    images, groups = frame["image"].tolist(), sorted(set(frame["group"]))
    known = _Names(_numbered("image", images), _numbered("group", groups))
    by = [column for column in options.by if column in frame]
    splits = study_splits(directory, described)
    renumbered = _renumbered(frame, splits, folds_to_run(described), by, known)
    renumbered.to_parquet(copy / TABLE_FILE, index=False)
    multi_label = bool(described.get("multi_label", False))
    table = ImageTable(renumbered, Path(), tuple(described["class_names"]), name, multi_label=multi_label)
    splits = splits.with_images(known.of_images(splits.image))
    save_splits(splits, copy / SPLITS_FILE)
    content = _shared_settings(described, known) | {
        "name": name,
        SHARED: True,
        "spec": {},
        "weights_digest": "",
    }
    content["table"] |= {
        "fingerprint": table.fingerprint,
        "content": "",
        "unreadable": [
            {"image": "", "error": "cannot be read"} for _ in described["table"].get("unreadable", ())
        ],
    }
    content["splits"] |= {"fingerprint": splits.fingerprint}
    content["redrawn_folds"] = splits.redrawn_fingerprints
    _write_json(copy / STUDY_FOLDER.file, content)
    finished = [
        _copy_run(directory, copy, described, method, *place, known) for method, place in _runs(described)
    ]
    records = (
        (TEST_SET_EVALUATIONS, read_test_set_evaluations(directory), _EVALUATION),
        (TEST_SET_LOOKS, read_test_set_looks(directory), _LOOK),
    )
    for file, entries, fields in records:
        if entries:
            lines = [json.dumps(known.keep(each, fields, file)) + "\n" for each in entries]
            (copy / file).write_text("".join(lines), encoding="utf-8")
    if thumbnails:
        _copy_thumbnails(directory / THUMBNAILS, copy / THUMBNAILS)
    save_options(copy, replace(options, images=thumbnails and options.images, by=tuple(by)))
    if any(finished):
        write_report(copy)
    return known


def _renumbered(
    frame: pd.DataFrame, splits: Splits, folds: Sequence[int], by: Sequence[str], known: _Names
) -> pd.DataFrame:
    """The table with new names and, of further columns, the values of subgroups: ranges in place of numbers."""
    import pandas as pd

    columns = {column: frame[column].tolist() for column in (*COLUMNS, UNKNOWN_COLUMN) if column in frame}
    columns["image"] = known.of_images(np.array(columns["image"], dtype=np.str_)).tolist()
    columns["group"] = known.of_groups(np.array(columns["group"], dtype=np.str_)).tolist()
    evaluated = np.isin(splits.fold, folds)  # those alone are in subgroups, and make the ranges
    for column in by:
        values = np.full(len(frame), "", dtype=object)
        values[evaluated] = in_ranges(as_texts(frame[column].tolist())[evaluated])
        columns[column] = values.tolist()
    return pd.DataFrame(columns, dtype=object)


def _numbered(kind: str, names: Sequence[str]) -> dict[str, str]:
    """New names in the order of the old ones, on which results that draw random numbers depend."""
    width = max(6, len(str(len(names))))
    return {name: f"{kind} {number:0{width}d}" for number, name in enumerate(names, 1)}


def _runs(described: Mapping[str, Any]) -> list[tuple[str, tuple[int, int]]]:
    return [(method, place) for method in described["methods"] for place in places_of(described)]


def _shared_settings(described: Mapping[str, Any], known: _Names) -> dict[str, Any]:
    """The content of study.json without what names or identifies anything."""
    place = STUDY_FOLDER.file
    content = known.keep(described, _STUDY, place)
    known.fields -= {f"{place}: {path.replace('.', ': ')}" for path in _REPLACED}
    recipe = recorded_recipe(described)
    built_in = recipe.name in list_recipes() and recipe.summary == load_recipe(recipe.name).summary
    weights = recipe.weights if recipe.weights in {"auto", "offline", "none"} else "file"
    private = {} if built_in else {"name": "own", "summary": ""}
    plain = recipe.model_copy(update={"weights": weights, **private})
    content |= {"recipe": plain.model_dump(mode="json"), "weights": weights}
    content["options"] = _shared_options(described.get("options", {}))
    content["findings"] = [
        {
            "code": str(each["code"]),
            "severity": str(each["severity"]),
            "message": f"{str(each['code']).replace('_', ' ')} ({each.get('affected') or 0} found); the text is left out",
            "advice": "",
            "affected": each.get("affected") or 0,
        }
        for each in described.get("findings", [])
    ]
    tuned = described.get("tuned") or {}
    if tuned:
        content["tuned"] = {
            method: known.keep(note, _TUNED, f"{place}: tuned") for method, note in tuned.items()
        }
    return content


def _shared_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the study's command that are numbers, choices, or the recipe and its settings, which are kept anyway."""
    known = declared(CompareOptions)
    plain = {
        name
        for name, option in known.items()
        if option.is_flag or option.choices or option.types <= {int, float}
    }
    kept = {name: value for name, value in given.items() if name in plain or name == "backbone"}
    if given.get("recipe") in list_recipes():  # no file, whatever name is in it
        kept["recipe"] = given["recipe"]
    if given.get("weights") in ("auto", "offline", "none"):
        kept["weights"] = given["weights"]
    if isinstance(given.get("set"), list):
        private = ("name", "summary", "weights")
        kept["set"] = [one for one in given["set"] if str(one).partition("=")[0].strip() not in private]
    return kept


def _copy_run(
    directory: Path,
    copy: Path,
    described: Mapping[str, Any],
    method: str,
    seed: int,
    fold: int,
    known: _Names,
) -> bool:
    """Copy a run, and return whether it is finished."""
    source, target = (run_directory(root, method, seed, fold) for root in (directory, copy))
    if not (source / DESCRIPTION).is_file():
        return False
    run = read_run_file(source / DESCRIPTION)
    make_folder(target)
    counts = dict.fromkeys(described["class_names"], _NUMBERS)
    content = known.keep(run, {**_RUN, "class_counts": counts}, DESCRIPTION)
    known.fields -= {f"{DESCRIPTION}: {name}" for name in _RUN_LEFT_OUT}
    _write_json(target / DESCRIPTION, content)
    if run.get("status") != "finished" or not (source / PREDICTIONS).is_file():
        return False
    for name in (PREDICTIONS, TEST_PREDICTIONS):
        if (source / name).is_file():
            _copy_predictions(source / name, target / name, bool(described.get("multi_label", False)), known)
    if (source / HISTORY).is_file():
        (target / HISTORY).write_text(history_csv(read_history(source / HISTORY)), encoding="utf-8")
    return True


def _copy_predictions(source: Path, target: Path, multi_label: bool, known: _Names) -> None:
    if multi_label:
        labels = read_label_predictions(source)
        write_label_predictions(
            replace(labels, image=known.of_images(labels.image), group=known.of_groups(labels.group)), target
        )
    else:
        table = read_predictions(source)
        write_predictions(
            replace(table, image=known.of_images(table.image), group=known.of_groups(table.group)), target
        )


def _copy_thumbnails(source: Path, target: Path) -> None:
    """Encode the thumbnails anew: their pixels and nothing else."""
    import cv2

    for path in sorted(source.glob("[0-9]*.jpg")):
        pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
        if path.stem.isdecimal() and pixels is not None:
            make_folder(target)
            (target / path.name).write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


def _unknown_files(directory: Path) -> list[str]:
    """The files in a study's folder that are none of a study's."""
    files = (path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file())
    return [
        str(path)
        for path in files
        if not any(path.match(known) and known.count("/") == len(path.parts) - 1 for known in _KNOWN)
    ]


def _explained(thumbnails: bool, by: Sequence[str], files: int, fields: int) -> str:
    """The content of shared.md; unknown files and fields are counted, as their names may identify too."""
    pictures = "- thumbnails of images, which show patients' images" if thumbnails else ""
    values = f"- the subgroup of each image by {', '.join(by)}, as reported" if by else ""
    without = "" if thumbnails else "- thumbnails of images"
    left_out = [_LEFT_OUT, without]
    left_out += (
        [f"- {counted(files, 'unknown file')} and {counted(fields, 'unknown field')}"]
        if files or fields
        else []
    )
    remains = [_REMAINS, values, pictures]
    blocks = ["# A copy of a study, made by tametail share", "## Left out", *_block(left_out)]
    blocks += ["## What remains", *_block(remains), "## What no longer works", _NO_LONGER]
    return "\n\n".join(blocks) + "\n"


def _block(lines: Sequence[str]) -> list[str]:
    return ["\n".join(line for line in lines if line)]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
