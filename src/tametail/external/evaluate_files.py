"""Evidence for finished predictions: read, kept in a folder of their own, and reported. No model and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.option import command_line
from tametail.core.options import EvaluateOptions
from tametail.core.registry import nearest
from tametail.external.prediction_files import check_files, read_prediction_files
from tametail.report import write_report
from tametail.storage.evaluation_file import (
    EvaluationSettings,
    ModelPredictions,
    prepare_evaluation,
    write_evaluation,
)

OperatingPoints = tuple[tuple[str, float], ...]


def check_operating(operating: OperatingPoints, class_names: Sequence[str]) -> None:
    """
    Raises:
        UsageError: one is for a class that is not there.
    """
    for name, _ in operating:
        if name not in class_names:
            raise UsageError(
                f"expected one of the classes for --operating, got {name!r}; {nearest(name, class_names)}"
            )


def evaluate_files(
    paths: Sequence[Path],
    out: Path,
    *,
    by: Sequence[str] = (),
    classes: Sequence[str] = (),
    ordered: bool = False,
    operating: OperatingPoints = (),
    console: Console | None = None,
) -> Path:
    """Evaluate predictions of models that were trained elsewhere, one file to a model.

    Args:
        paths: files as `read_prediction_files` reads them.
        out: folder of the evaluation; an earlier one there is replaced. None of the files may lie in it.
        by: columns to evaluate by.
        classes: names of all classes in their order; empty for what the files say.
        ordered: the order of the classes means something.
        operating: from `tametail.core.option.read_operating`.

    Returns:
        The path of report.html.

    Raises:
        UsageError, DataError, TametailError: see their messages; nothing is written before all files are read.
    """
    console = console or Console(quiet=True)
    check_files(paths)
    read = read_prediction_files(paths, by=list(dict.fromkeys(by)), classes=classes, ordered=ordered)
    first = next(iter(read.models.values()))
    check_operating(operating, first.class_names)
    options = {
        "by": list(read.carried),
        "classes": list(classes) or None,
        "ordered": ordered or None,
        "operating": [f"{name}={sensitivity:g}" for name, sensitivity in operating],
        "out": "EVALUATION",
    }
    about = EvaluationSettings(
        name=next(iter(read.models)) if len(read.models) == 1 else f"{len(read.models)} models",
        class_names=first.class_names,
        models=(),
        ordered=ordered,
        grouped=read.grouped,
        by=tuple(read.carried),
        operating=operating,
        facts=(
            ("Predictions", ", ".join(path.name for path in paths)),
            ("Groups", "as column group says" if read.grouped else "not known: every image by itself"),
        ),
        command=command_line("evaluate", [path.name for path in paths], options, EvaluateOptions),
    )
    if not read.grouped:
        console.say(
            "No file has a column group, so every image counts by itself; where patients have several, intervals are too "
            "narrow."
        )
    answers = {name: ModelPredictions([table]) for name, table in read.models.items()}
    prepare_evaluation(out, paths)
    return report_on(out, answers, read.carried, about, console)


def report_on(
    out: Path,
    answers: Mapping[str, ModelPredictions],
    carried: Mapping[str, NDArray[np.str_]],
    about: EvaluationSettings,
    console: Console,
) -> Path:
    """Keep what models said in a folder, and write its report.

    Returns:
        The path of report.html.
    """
    target = next(iter(answers.values())).tables[0].target
    present = np.bincount(target, minlength=len(about.class_names))
    absent = [name for name, count in zip(about.class_names, present, strict=True) if not count]
    if absent:
        console.warn(
            f"no image is of {', '.join(absent)}: the report says so, and no mean counts {'it' if len(absent) == 1 else 'them'}"
        )
    prepare_evaluation(out)
    write_evaluation(out, answers, carried, about)
    return write_report(out)
