"""Evaluate files of predictions: read them, store them in a folder, and write the report. No model and no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.core.option import command_line
from tametail.core.options import EvaluateOptions
from tametail.core.registry import nearest
from tametail.evaluation.class_order import ordinal_classes
from tametail.external.prediction_files import (
    check_files,
    have_several_labels,
    read_label_files,
    read_prediction_files,
)
from tametail.predictions.multi_label import LabelPredictions
from tametail.report import write_report
from tametail.storage.evaluation_file import (
    EvaluationSettings,
    ModelPredictions,
    prepare_evaluation,
    write_evaluation,
)
from tametail.storage.study_file import STUDY_FOLDER, read_study_file, refuse_shared

OperatingPoints = tuple[tuple[str, float], ...]


def check_operating(operating: OperatingPoints, class_names: Sequence[str]) -> None:
    """Check that the classes of operating points exist.

    Raises:
        UsageError: an unknown class.
    """
    for name, _ in operating:
        if name not in class_names:
            raise UsageError(
                f"expected one of the classes for --operating, got {name!r}; {nearest(name, class_names)}"
            )


def refuse_for_labels(
    by: Sequence[str], ordered: bool | None, class_order: Sequence[str] | None, operating: OperatingPoints
) -> None:
    """Refuse options that are for one class per image.

    Raises:
        UsageError: one of them was given.
    """
    given = {"--by": by, "--operating": operating, "--ordered": ordered, "--class-order": class_order}
    if wrong := [flag for flag, value in given.items() if value]:
        raise UsageError(
            f"{', '.join(wrong)} can only be given for images of one class each, but these may have several labels; leave it out"
        )


def written_options(
    by: Sequence[str], ordered: bool | None, class_order: Sequence[str] | None, operating: OperatingPoints
) -> dict[str, object]:
    """The options of every evaluation for the command that repeats it."""
    points = [f"{name}={sensitivity:g}" for name, sensitivity in operating]
    order = list(class_order or ()) or None
    return {
        "by": list(by),
        "ordered": ordered,
        "class_order": order,
        "operating": points,
        "out": "EVALUATION",
    }


def evaluate_files(
    paths: Sequence[Path],
    out: Path,
    *,
    by: Sequence[str] = (),
    classes: Sequence[str] = (),
    ordered: bool | None = None,
    class_order: Sequence[str] | None = None,
    operating: OperatingPoints = (),
    console: Console | None = None,
) -> Path:
    """Evaluate predictions of models trained elsewhere, one file per model.

    Args:
        paths: files as `read_prediction_files` reads them.
        out: folder of the evaluation, which must contain none of the files; an earlier evaluation is replaced.
        by: columns that define subgroups.
        classes: names of all classes in their order; empty for those of the files.
        ordered: whether the classes are ordinal; None if they are where ``class_order`` is given.
        class_order: all classes from the lowest grade to the highest; None or empty for that of ``classes``, or of the
            numbers that they are named by.
        operating: from `tametail.core.option.read_operating`.

    Returns:
        The path of report.html.

    Raises:
        UsageError, DataError, TametailError: see their messages; nothing is written before all files are read.
    """
    check_files(paths)
    _store_files(
        paths,
        out,
        by=tuple(dict.fromkeys(by)),
        classes=classes,
        ordered=ordered,
        class_order=class_order,
        operating=operating,
        console=console or Console(quiet=True),
    )
    return write_report(out)  # which reads the tables again: here they are in memory no longer


def _store_files(
    paths: Sequence[Path],
    out: Path,
    *,
    by: tuple[str, ...],
    classes: Sequence[str],
    ordered: bool | None,
    class_order: Sequence[str] | None,
    operating: OperatingPoints,
    console: Console,
) -> None:
    """Read the files and store their predictions as an evaluation."""
    several = have_several_labels(paths)
    order: tuple[str, ...] = ()
    columns: Mapping[str, NDArray[np.str_]] = {}
    unknown: list[tuple[str, str]] = []
    if several:
        refuse_for_labels(by, ordered, class_order, operating)
        if classes:
            raise UsageError(
                "--classes can only be given for images of one class each; the labels are those of the columns label_NAME"
            )
        labelled = read_label_files(paths)
        grouped = labelled.grouped
        predictions = {
            name: ModelPredictions([table], label_thresholds=labelled.thresholds[name])
            for name, table in labelled.models.items()
        }
        known = next(iter(labelled.models.values())).known
        if not known.all():
            unknown = [("Unknown labels, left out", f"{np.count_nonzero(~known):,} of {known.size:,}")]
    else:
        read = read_prediction_files(paths, by=by, classes=classes)
        class_names = next(iter(read.models.values())).class_names
        check_operating(operating, class_names)
        given = class_order or (classes if ordered else None)
        order = ordinal_classes(class_names, ordered=ordered, given=given)
        columns, grouped = read.subgroup_columns, read.grouped
        predictions = {name: ModelPredictions([table]) for name, table in read.models.items()}
    first = next(iter(predictions.values())).tables[0]
    options = {"by": [], "classes": list(classes) or None} | written_options(
        by, ordered, class_order, operating
    )
    about = EvaluationSettings(
        name=next(iter(predictions)) if len(predictions) == 1 else f"{len(predictions)} models",
        class_names=first.class_names,
        models=(),
        class_order=order,
        grouped=grouped,
        by=by,
        operating=operating,
        facts=(
            ("Predictions", ", ".join(path.name for path in paths)),
            ("Groups", "from column group" if grouped else "unknown: every image is its own group"),
            *unknown,
        ),
        command=command_line("evaluate", [path.name for path in paths], options, EvaluateOptions),
        multi_label=several,
    )
    if not grouped:
        console.warn(
            "no file has a column group, so every image is its own group; if patients have several images, intervals are too "
            "narrow"
        )
    prepare_evaluation(out, paths)
    if warning := "; ".join(_held_out(paths, first.image, console)):
        about = replace(about, facts=(("Warning", warning), *about.facts))
    store(out, predictions, columns, about, console)


def _held_out(paths: Sequence[Path], images: NDArray[np.str_], console: Console) -> Iterator[str]:
    """Warnings of held-out images of the studies that the files lie in, as far as the images are found.

    The predictions of a study's own runs are left out: their evaluation is recorded.
    """
    folders = {
        study: path.parent
        for path in map(Path.resolve, paths)
        for study in path.parents
        if (study / STUDY_FOLDER.file).is_file() and study / "runs" not in path.parents
    }
    for study, folder in folders.items():
        from tametail.study.image_digests import digests_of_files, recognise_held_out

        candidates = [
            next(filter(os.path.isfile, (Path(image), folder / image)), None) for image in images.tolist()
        ]
        try:
            described = read_study_file(study)
            refuse_shared(study, described)
        except (DataError, UsageError) as error:
            console.warn(f"it was not checked whether images are of a study's held-out test set: {error}")
            continue
        found = digests_of_files([path for path in candidates if path], described)
        if warning := recognise_held_out(study, "evaluate", [found], console):
            yield warning


def store(
    out: Path,
    predictions: Mapping[str, ModelPredictions],
    subgroup_columns: Mapping[str, NDArray[np.str_]],
    about: EvaluationSettings,
    console: Console,
) -> None:
    """Store predictions in a folder, from which `write_report` evaluates them."""
    first = next(iter(predictions.values())).tables[0]
    if isinstance(first, LabelPredictions):
        _check_labels(first, console)
    else:
        present = np.bincount(first.target, minlength=len(about.class_names))
        absent = [name for name, count in zip(about.class_names, present, strict=True) if not count]
        if absent:
            console.warn(f"no image of {', '.join(absent)}: means are over the other classes")
    prepare_evaluation(out)
    write_evaluation(out, predictions, subgroup_columns, about)


def _check_labels(table: LabelPredictions, console: Console) -> None:
    """Warn of labels that not both positive and negative images are known of, which are in no ranking; `DataError` if all are."""
    both = table.labels.any(axis=0) & (table.known & ~table.labels).any(axis=0)
    if not both.any():
        raise DataError(
            "expected a label that some images have and others do not, found none; give images of both kinds"
        )
    few = table.known.any(axis=0) & ~both
    if few.any():
        named = ", ".join(np.array(table.class_names)[few].tolist())
        console.warn(f"no positive or no negative image of {named}: means are over the other labels")
