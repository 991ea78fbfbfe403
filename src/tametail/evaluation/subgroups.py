"""Evaluate subgroups: the images of each value of a column, such as sex, site or device. Shape legend: N images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import UsageError
from tametail.core.text import sample_of
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.sample import Sample, align
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
        balanced_accuracy, macro_f1: over the classes present in the subgroup; not comparable between subgroups with
            different classes.
        accuracy: proportion of correct images.
        absent: names of the classes without an image in the subgroup.
        small: it has fewer than 10 images, too few for reliable estimates.
    """

    column: str
    value: str
    n: int
    groups: int
    balanced_accuracy: Estimate
    macro_f1: Estimate
    accuracy: Estimate
    absent: tuple[str, ...]
    small: bool


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
                sample.balanced_accuracy,
                sample.macro_f1,
                sample.accuracy,
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
