"""The history of a training run: its epochs, and the validation after each, which is used for nothing else.

Shape legend: N images, C classes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.run_files import TIMING
from tametail.data.class_groups import class_group_of
from tametail.evaluation.metrics import confusion_matrix, mean_over, recall
from tametail.evaluation.ranking_metrics import average_precision

_TIMES = ("seconds", "images_per_second")


@dataclass(frozen=True)
class Validation:
    """Performance of a model on its held-out fold; nan where it is undefined.

    Attributes:
        balanced_accuracy: mean recall of the classes, or, with several labels per image, mean average precision.
        few_shot_recall: the same over the few-shot classes, those with fewer than 20 training images.
    """

    balanced_accuracy: float
    few_shot_recall: float


@dataclass(frozen=True)
class EpochRecord:
    """One row of history.csv and timing.csv.

    Attributes:
        epoch: from 1.
        step: total number of steps.
        loss: mean over the epoch's steps.
        lr: learning rate of its last step.
        seconds: duration of its steps.
        images_per_second: of all processes.
        val_balanced_accuracy, val_few_shot_recall: see `Validation`; None without validation, or where undefined.
    """

    epoch: int
    step: int
    loss: float
    lr: float
    seconds: float = 0.0
    images_per_second: float = 0.0
    val_balanced_accuracy: float | None = None
    val_few_shot_recall: float | None = None

    def with_validation(self, validation: Validation | None) -> EpochRecord:
        """The record with the values of a validation; None where they are undefined."""
        found = astuple(validation or Validation(math.nan, math.nan))
        accuracy, few_shot = (None if math.isnan(value) else value for value in found)
        return replace(self, val_balanced_accuracy=accuracy, val_few_shot_recall=few_shot)


def validate(scores: ArrayLike, target: ArrayLike, class_counts: Sequence[int]) -> Validation:
    """Evaluate a model by its scores, whose argmax is its decision.

    Args:
        scores: (N, C) logits of the decision.
        target: (N,) class indices, or (N, C) labels of 0 and 1, nan where unknown.
        class_counts: C training images per class.

    Raises:
        ValueError: shapes that do not match.
    """
    values, truth = np.asarray(scores), np.asarray(target)
    classes = len(class_counts)
    if values.ndim != 2 or values.shape[1] != classes or truth.shape not in {values.shape, values.shape[:1]}:
        raise ValueError(
            f"expected scores (N, {classes}) and a target (N,) or (N, {classes}), got {values.shape} and {truth.shape}"
        )
    if truth.ndim == 1:
        per_class = recall(confusion_matrix(truth, values.argmax(axis=1), classes))
    else:
        known = ~np.isnan(truth.astype(np.float64))
        pairs = zip(truth.T, values.T, known.T, strict=True)
        per_class = np.array([average_precision(label[of] == 1, score[of]) for label, score, of in pairs])
    present = ~np.isnan(per_class)
    few = present & np.array([class_group_of(int(count)) == "few" for count in class_counts])
    return Validation(float(mean_over(per_class, present)), float(mean_over(per_class, few)))


def still_falling(history: Sequence[EpochRecord]) -> bool | None:
    """Whether the training loss was still falling before the learning rate reached zero.

    Of the epochs with at least a tenth of the largest learning rate, the last quarter is compared with the one before: the
    loss fell if its mean is more than 5 % lower. None where a quarter has fewer than two epochs, or nothing is annealed.
    """
    highest = max((record.lr for record in history), default=0.0)
    losses = [record.loss for record in history if record.lr >= highest / 10 and highest > 0]
    quarter = len(losses) // 4
    if quarter < 2:
        return None
    before, last = (float(np.mean(part)) for part in (losses[-2 * quarter : -quarter], losses[-quarter:]))
    return bool(last < before - 0.05 * abs(before))


def mean_record(records: Sequence[EpochRecord]) -> EpochRecord:
    """Means over heads that are trained at once, without undefined values; for display."""

    def mean(name: str) -> float | None:
        values = [getattr(record, name) for record in records]
        known = [value for value in values if value is not None and not math.isnan(value)]
        return sum(known) / len(known) if known else None

    names = ("lr", "val_balanced_accuracy", "val_few_shot_recall")
    loss = mean("loss")
    means: dict[str, Any] = {name: mean(name) for name in names}
    return replace(records[0], loss=math.nan if loss is None else loss, **means)


def history_csv(history: Sequence[EpochRecord]) -> str:
    """The history as CSV text, without times: identical to the last digit when a run is repeated."""
    return _csv(("epoch", "step", "loss", "lr", "val_balanced_accuracy", "val_few_shot_recall"), history)


def timing_csv(history: Sequence[EpochRecord]) -> str:
    """The times of the epochs as CSV text."""
    return _csv(("epoch", *_TIMES), history)


def _csv(columns: Sequence[str], history: Sequence[EpochRecord]) -> str:
    rows = [[getattr(record, column) for column in columns] for record in history]
    lines = [",".join("" if value is None else f"{value}" for value in row) for row in rows]
    return "\n".join([",".join(columns), *lines]) + "\n"


def read_history(path: Path) -> list[EpochRecord]:
    """Read the records of a history.csv, with times if there is a timing.csv in the same folder.

    Raises:
        DataError: a file is missing or not in the format of `history_csv` and `timing_csv`.
    """
    timing = path.with_name(TIMING)
    try:
        times = {row["epoch"]: row for row in _rows(timing)} if timing.is_file() else {}
        return [_record(row, times.get(row["epoch"], {})) for row in _rows(path)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"expected the history of a run at {path}, but it cannot be read: {error!r}"
        ) from error


def _rows(path: Path) -> list[dict[str, str]]:
    with regular(path).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, strict=True))


def _record(row: dict[str, str], times: dict[str, str]) -> EpochRecord:
    seen: dict[str, Any] = {
        name: float(row[name]) if row.get(name) else None
        for name in ("val_balanced_accuracy", "val_few_shot_recall")
    }
    took = {name: float(times[name]) for name in _TIMES if name in times}
    return EpochRecord(
        int(row["epoch"]), int(row["step"]), float(row["loss"]), float(row["lr"]), **took, **seen
    )
