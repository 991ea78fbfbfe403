"""Train a model for use: a method is cross-validated, trained on all training images, and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from tametail.core.console import Console
from tametail.core.errors import UsageError, as_usage_error
from tametail.core.option import pick, takes
from tametail.core.options import CompareOptions, ExportOptions, TrainOptions
from tametail.data import ImageTable
from tametail.deployment.classifier import Classifier
from tametail.deployment.export import check_export, export
from tametail.study.study import compare
from tametail.training.strategies import parse_method


@takes(TrainOptions)
def train(
    data: str | Path | ImageTable, *, console: Console | None = None, **options: Unpack[TrainOptions]
) -> Classifier:
    """Train a model on all training images, and export it.

    The method is cross-validated first, in a study: from its out-of-fold predictions come the evidence, the calibration map, the
    prediction sets, and what the final training needs. Without a method, the default ones are compared, and the best is taken.
    Images of a test set are held out of all of this.

    Args:
        data: what `read_images` takes, or a table.
        console: where progress is shown; None for silence.
        options: see below. ``out`` is the folder of the model.

    Returns:
        The exported model, as `tametail.load` reads it.

    Raises:
        UsageError, DataError, TametailError: see `tametail.compare` and `tametail.export`.

    Example:
        >>> model = tt.train("skin/", method="ce+la", label_col="dx", out="model/")  # doctest: +SKIP
    """
    given: dict[str, Any] = dict(options)
    if given["dry_run"]:
        raise UsageError("expected no --dry-run; tametail compare DATA --dry-run says how the data are read")
    if given["method"] is not None:
        with as_usage_error():
            parse_method(given["method"])
    if given["study_out"] is not None and Path(given["study_out"]).resolve() == Path(given["out"]).resolve():
        raise UsageError(
            f"expected two folders, for the study and for the model, got {given['out']} for both"
        )
    check_export(Path(given["out"]), given["format"], given["coverage"])
    study = compare(
        data, given["method"], console=console, **(pick(CompareOptions, given) | {"out": given["study_out"]})
    )
    asked = pick(ExportOptions, given | {"refit": True})
    return export(study.directory, given["out"], console=console, **asked)
