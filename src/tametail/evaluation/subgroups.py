"""The same evaluation for each value of a further column, such as sex, site or device. Shape legend: N images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import UsageError
from tametail.core.text import sample_of
from tametail.evaluation.alignment import align
from tametail.evaluation.evaluate import evaluate
from tametail.evaluation.proportions import Estimate
from tametail.predictions.single_label import Predictions

SMALL_SUBGROUP = 10  # images below which a subgroup is marked as small
MOST_VALUES = 30  # of a column that images are evaluated by
_MOST_AS_THEY_ARE = 10  # distinct numbers


@dataclass(frozen=True)
class Subgroup:
    """The images of one value of a column.

    Attributes:
        column, value: what they have in common; the value is empty where it is not known.
        n: images.
        groups: distinct groups.
        balanced_accuracy, macro_f1: over the classes that the subgroup holds. Subgroups that hold others cannot be
            compared by them.
        accuracy: share of images predicted right.
        absent: names of the classes that no image of the subgroup is of.
        small: it has fewer than 10 images, and its numbers say next to nothing.
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
    """Evaluate the images of each value by themselves, as `evaluate` does.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        values: (N,) in the order of the first table's rows.
        name: of the column.
        resamples, seed: of the bootstrap of macro-F1.

    Returns:
        One per value: in the order of the values, the unknown one last.

    Raises:
        ValueError: another number of values than images, or what `evaluate` raises.
    """
    tables = align(replicates)
    if len(values) != len(tables[0]):
        raise ValueError(f"expected {len(tables[0])} values of {name}, one per image, got {len(values)}")
    ordered = np.asarray(values)[np.argsort(replicates[0].image, kind="stable")]
    found = []
    for value in sorted(set(ordered.tolist()), key=_natural):
        rows = ordered == value
        result = evaluate([_take(table, rows) for table in tables], resamples=resamples, seed=seed)
        found.append(
            Subgroup(
                name,
                value,
                result.n,
                result.groups,
                result.balanced_accuracy,
                result.macro_f1,
                result.accuracy,
                tuple(of_class.name for of_class in result.classes if not of_class.n),
                result.n < SMALL_SUBGROUP,
            )
        )
    return tuple(found)


def _natural(text: str) -> tuple[bool, list[tuple[int, str]]]:
    """Order by the numbers in a text, as 9 before 10; the unknown value last."""
    pieces = re.split(r"(\d+)", text)
    return not text, [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def _take(table: Predictions, rows: NDArray[np.bool_]) -> Predictions:
    return replace(
        table,
        image=table.image[rows],
        group=table.group[rows],
        target=table.target[rows],
        fold=table.fold[rows],
        logits=table.logits[rows],
        posterior=None if table.posterior is None else table.posterior[rows],
    )


def in_ranges(values: NDArray[np.str_]) -> NDArray[np.str_]:
    """Values (N,) to evaluate by: numbers of many kinds, such as ages, as four ranges of about as many images each.

    Ten or fewer distinct values stay as they are, and so do texts. What is empty stays empty.
    """
    known = values != ""
    try:
        numbers = values[known].astype(np.float64)
    except ValueError:
        return values
    if len(np.unique(numbers)) <= _MOST_AS_THEY_ARE or not np.isfinite(numbers).all():
        return values
    ordered = np.sort(numbers)
    upper = np.unique(ordered[[len(ordered) * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]])
    code = np.searchsorted(upper, numbers, side="left")
    names = [f"{numbers[code == c].min():g} to {numbers[code == c].max():g}" for c in range(len(upper))]
    found = np.full(len(values), "", dtype=object)
    found[known] = np.array(names, dtype=object)[code]
    return found.astype(np.str_)


def as_texts(cells: Sequence[object]) -> NDArray[np.str_]:
    """Cells of a column (N,) as texts; empty where nothing is known."""
    return np.array(["" if cell is None or cell != cell else str(cell) for cell in cells], dtype=np.str_)


def subgroup_values(values: NDArray[np.str_], column: str) -> NDArray[np.str_]:
    """Values (N,) of a column, numbers of many kinds as ranges; see `in_ranges`.

    Raises:
        UsageError: there are too many.
    """
    ranged = in_ranges(values)
    distinct = len(np.unique(ranged))
    if distinct > MOST_VALUES:
        raise UsageError(
            f"expected at most {MOST_VALUES} values in a column to evaluate by, found {distinct} in {column!r} "
            f"({sample_of(sorted(set(ranged.tolist())))}); put them together, or name another column with --by"
        )
    return ranged
