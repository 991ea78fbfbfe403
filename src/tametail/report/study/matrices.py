"""Matrices of the page: the confusion matrix of a method, and the paired tests of every method against every other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tametail.evaluation import Evaluation
from tametail.evaluation.paired import Paired
from tametail.report.study.results import StudyResults

MOST_CONFUSION_CLASSES = 40  # more rows are unreadable
_MOST_ROOMY = 12  # classes; larger matrices do not fit side by side
_MOST_WITH_NUMBERS = 9  # methods; larger matrices of pairs show signs only
_MOST_PAIRED = 40  # methods
_INVERTED = 0.61  # share of a row from which its cell has light letters, for a contrast of at least 4.5
SIGNS = {"better": "▲", "worse": "▼"}


@dataclass(frozen=True)
class ConfusionCell:
    """A cell as text: its shade in 0..1, its share of the row in %, its count, and its CSS classes."""

    shade: str
    rate: str
    count: str
    kind: str


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix of one method; rows (true) and columns (predicted) are in the order of ``names``."""

    method: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[ConfusionCell, ...]], ...]
    dense: bool


def confusion(method: str, evaluation: Evaluation, order: Sequence[int]) -> Confusion:
    """Format a confusion matrix.

    Args:
        method: the name of the method.
        evaluation: its evaluation.
        order: class indices from the first row down.
    """
    names = tuple(evaluation.classes[index].name for index in order)
    counts, rates = confusion_rates(evaluation, order)
    rows = tuple(
        (
            name,
            tuple(
                _cell(float(rates[row, column]), float(counts[row, column]), diagonal=row == column)
                for column in range(len(names))
            ),
        )
        for row, name in enumerate(names)
    )
    return Confusion(method, names, rows, len(names) > _MOST_ROOMY)


def confusion_rates(evaluation: Evaluation, order: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(C, C) counts and their shares of the row, classes in the given order; a row without images has shares of 0."""
    assert evaluation.confusion is not None
    counts = evaluation.confusion[np.ix_(order, order)]
    totals = counts.sum(axis=1, keepdims=True)
    return counts, np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)


def _cell(rate: float, count: float, *, diagonal: bool) -> ConfusionCell:
    kinds = [kind for kind, holds in (("on", rate > _INVERTED), ("hit", diagonal)) if holds]
    percent = f"{100 * rate:.0f}"
    return ConfusionCell(
        f"{rate:.2f}",
        "<1" if percent == "0" and rate > 0 else percent,
        f"{count:.0f}" if count == round(count) else f"{count:.1f}",
        " ".join(kinds),
    )


@dataclass(frozen=True)
class PairedTests:
    """The paired tests of a study.

    Attributes:
        best: the method of the highest rank.
        count: number of pairs.
        names: the methods by rank.
        matrix: each method against every other; empty for two methods and for very many.
        small: the matrix shows signs only.
    """

    best: str
    count: int
    names: tuple[str, ...]
    matrix: tuple[tuple[str, tuple[Paired | None, ...]], ...]
    small: bool


def pairs(results: StudyResults) -> PairedTests | None:
    """The paired tests, methods in the order of their rank; None if there are none."""
    table = results.pairs
    if table is None:
        return None
    names = tuple(table.names)
    size = len(names)
    matrix = tuple(
        (name, tuple(None if i == j else table.pair(i, j) for j in range(size)))
        for i, name in enumerate(names)
        if 2 < size <= _MOST_PAIRED
    )
    return PairedTests(names[0], size * (size - 1) // 2, names, matrix, size > _MOST_WITH_NUMBERS)
