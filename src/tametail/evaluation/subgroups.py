"""Evaluate subgroups: the images of each value of a column, such as sex, site or device. Shape legend: N images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.core.errors import UsageError
from tametail.core.text import sample_of
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.label_sample import LabelSample
from tametail.evaluation.label_thresholds import DEFAULT_THRESHOLD, out_of_fold_thresholds
from tametail.evaluation.sample import Sample, align
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions

SMALL_SUBGROUP = 10  # images; subgroups with fewer are marked as small
MOST_VALUES = 30  # of a subgroup column
_MOST_UNBINNED = 10  # distinct numbers that are not binned


@dataclass(frozen=True)
class Subgroup:
    """The images of one value of a column.

    Attributes:
        column, value: the value is empty where it is missing.
        n: images.
        groups: distinct groups.
        estimates: by the name of the metric, balanced accuracy, macro-F1 and accuracy, or of several labels mean average precision,
            macro AUROC and macro-F1. Means over classes are over those present in the subgroup, and not comparable between
            subgroups with different classes.
        absent: names of the classes without an image in the subgroup (of labels: without a positive or a negative one).
        small: it has fewer than 10 images, too few for reliable estimates.
    """

    column: str
    value: str
    n: int
    groups: int
    estimates: Mapping[str, Estimate]
    absent: tuple[str, ...]
    small: bool

    def __getitem__(self, metric: str) -> Estimate:
        """The estimate of a metric by its name."""
        return self.estimates[metric]


def label_subgroups(
    replicates: Sequence[LabelPredictions], values: NDArray[np.str_], name: str
) -> tuple[Subgroup, ...]:
    """Evaluate the images of each value separately, see `evaluate_labels`; thresholds are those of all other folds.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined), in the same order.
        values: (N,) in the order of the rows.
        name: of the column.

    Returns:
        One per value: in natural order, missing values last.
    """
    first = replicates[0]
    thresholds = [out_of_fold_thresholds(table) for table in replicates]
    found = []
    for value in sorted(set(values.tolist()), key=natural_order):
        rows = values == value
        # A label is predicted where its probability reaches the threshold of its image: of 0.5 once it is moved there.
        moved = [_moved(table.take(rows), of[rows]) for table, of in zip(replicates, thresholds, strict=True)]
        sample = LabelSample(moved, np.full(len(first.class_names), DEFAULT_THRESHOLD))
        absent = np.flatnonzero((sample.positives == 0) | (sample.negatives == 0))
        estimates = {
            "mean_average_precision": sample.mean_average_precision,
            "macro_auroc": sample.macro_auroc,
            "macro_f1": sample.macro_f1,
        }
        found.append(
            Subgroup(
                name,
                value,
                len(sample),
                len(np.unique(sample.group)),
                estimates,
                tuple(first.class_names[index] for index in absent),
                len(sample) < SMALL_SUBGROUP,
            )
        )
    return tuple(found)


def _moved(table: LabelPredictions, thresholds: FloatArray) -> LabelPredictions:
    """The table with probabilities of 1 where the label is predicted, and of 0 elsewhere."""
    return replace(table, posterior=table.decided(thresholds).astype(np.float32))


def subgroups(
    replicates: Sequence[Predictions],
    values: NDArray[np.str_],
    name: str,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """Evaluate the images of each value separately, see `evaluate`.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        values: (N,) in the order of the first table's rows.
        name: of the column.
        resamples, seed: of the bootstrap of macro-F1.

    Returns:
        One per value: in natural order, missing values last.

    Raises:
        ValueError: another number of values than images, or what `evaluate` raises.
    """
    tables, ordered = aligned_values(replicates, values, name)
    found = []
    for value in sorted(set(ordered.tolist()), key=natural_order):
        rows = ordered == value
        sample = Sample([table.take(rows) for table in tables], resamples=resamples, seed=seed)
        absent = np.flatnonzero(~sample.present)
        found.append(
            Subgroup(
                name,
                value,
                len(sample),
                sample.counts.groups,
                {
                    "balanced_accuracy": sample.balanced_accuracy,
                    "macro_f1": sample.macro_f1,
                    "accuracy": sample.accuracy,
                },
                tuple(tables[0].class_names[index] for index in absent),
                len(sample) < SMALL_SUBGROUP,
            )
        )
    return tuple(found)


def aligned_values(
    replicates: Sequence[Predictions], values: NDArray[np.str_], name: str
) -> tuple[list[Predictions], NDArray[np.str_]]:
    """The tables sorted by image, see `align`, and the values (N,), given in the order of the first one, likewise."""
    tables = align(replicates)
    if len(values) != len(tables[0]):
        raise ValueError(f"expected {len(tables[0])} values of {name}, one per image, got {len(values)}")
    return tables, np.asarray(values)[np.argsort(replicates[0].image, kind="stable")]


def natural_order(text: str) -> tuple[bool, list[tuple[int, str]]]:
    """Natural sort key: 9 before 10; the missing value last."""
    pieces = re.split(r"(\d+)", text)
    return not text, [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def in_ranges(values: NDArray[np.str_]) -> NDArray[np.str_]:
    """Bin numeric values (N,), such as ages, into quartiles; texts, and ten or fewer distinct values, stay unchanged."""
    known = values != ""
    try:
        numbers = values[known].astype(np.float64)
    except ValueError:
        return values
    if len(np.unique(numbers)) <= _MOST_UNBINNED or not np.isfinite(numbers).all():
        return values
    ordered = np.sort(numbers)
    upper = np.unique(ordered[[len(ordered) * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]])
    code = np.searchsorted(upper, numbers, side="left")
    names = [f"{numbers[code == c].min():g} to {numbers[code == c].max():g}" for c in range(len(upper))]
    found = np.full(len(values), "", dtype=object)
    found[known] = np.array(names, dtype=object)[code]
    return found.astype(np.str_)


def as_texts(cells: Sequence[object]) -> NDArray[np.str_]:
    """Cells of a column (N,) as texts; empty where missing."""
    return np.array(["" if cell is None or cell != cell else str(cell) for cell in cells], dtype=np.str_)


def subgroup_values(values: NDArray[np.str_], column: str, *, option: str = "--by") -> NDArray[np.str_]:
    """Values (N,) that define the subgroups of a column; numbers are binned, see `in_ranges`.

    Args:
        values: of the column.
        column: its name.
        option: that names it, for the message.

    Raises:
        UsageError: there are too many distinct values.
    """
    ranged = in_ranges(values)
    distinct = len(np.unique(ranged))
    if distinct > MOST_VALUES:
        raise UsageError(
            f"expected at most {MOST_VALUES} values in a column to evaluate by, found {distinct} in {column!r} "
            f"({sample_of(sorted(set(ranged.tolist())))}); combine them, or name another column with {option}"
        )
    return ranged
