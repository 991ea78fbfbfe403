"""Matrices for the page: where images of each class went, and every loss against every other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.paired import Paired
from tametail.report import formatting
from tametail.report.study.results import StudyResults

MOST_CLASSES = 40  # beyond this a matrix cannot be read on a page
_MOST_ROOMY = 12  # classes; beyond this two matrices do not fit beside each other
_MOST_NUMBERED = 9  # losses; beyond this a matrix of pairs shows signs alone
_MOST_PAIRED = 40  # losses
_INVERTED = (
    0.61  # share from which letters change their colour: on both sides of it their contrast is 4.5 or more
)
_KINDS = {"better": "better", "worse": "worse"}  # of verdicts; the other is "alike"
_SIGNS = {"better": "▲", "worse": "▼", "alike": "="}


@dataclass(frozen=True)
class ConfusionCell:
    """A cell: ``shade`` in 0..1, its share of the row in % and its count, both in words, and the CSS class."""

    shade: str
    rate: str
    count: str
    kind: str


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix of one loss, rows and columns in the order of ``names``."""

    method: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[ConfusionCell, ...]], ...]
    dense: bool


def confusion(method: str, evaluation: Evaluation, order: Sequence[int]) -> Confusion:
    """Where the images of each class (rows) went (columns).

    Args:
        loss: whose matrix it is.
        evaluation: its numbers.
        order: class indices from the first row down.
    """
    names = tuple(evaluation.classes[index].name for index in order)
    counts = evaluation.confusion[np.ix_(order, order)]
    totals = counts.sum(axis=1, keepdims=True)
    rates = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
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
class AgainstBest:
    """The best loss against another: difference in 0..1, and the same in points, with what would tell them apart."""

    other: str
    difference: float
    points: str
    interval: str
    p: float
    p_holm: float
    verdict: str
    more: str


@dataclass(frozen=True)
class PairCell:
    """The row's loss against the column's."""

    kind: str
    sign: str
    verdict: str
    points: str
    p_in_words: str


@dataclass(frozen=True)
class Pairs:
    """All paired tests of a study as the page shows them; ``small`` matrices have signs alone."""

    best: str
    count: int
    names: tuple[str, ...]
    rows: tuple[AgainstBest, ...]
    matrix: tuple[tuple[str, tuple[PairCell | None, ...]], ...]
    small: bool


def pairs(results: StudyResults) -> Pairs | None:
    """The paired tests, losses in the order of their rank; None where none were made."""
    table = results.pairs
    if table is None:
        return None
    names = tuple(table.names)
    rows = tuple(_against(name, table.pair(0, place)) for place, name in enumerate(names) if place)
    size = len(names)
    matrix = tuple(
        (name, tuple(None if i == j else _pair(table.pair(i, j)) for j in range(size)))
        for i, name in enumerate(names)
    )
    shown = 2 < size <= _MOST_PAIRED
    return Pairs(
        names[0], size * (size - 1) // 2, names, rows, matrix if shown else (), size > _MOST_NUMBERED
    )


def _against(other: str, paired: Paired) -> AgainstBest:
    return AgainstBest(
        other,
        paired.difference.value,
        points(paired.difference.value),
        interval(paired.difference),
        paired.p,
        paired.p_holm,
        paired.verdict,
        _more(paired),
    )


def _more(paired: Paired) -> str:
    if paired.verdict in _KINDS:
        return formatting.ABSENT
    if paired.required_sample_size is None:
        return "more images than can be said"
    return (
        f"about {paired.required_sample_size:,} more images"
        if paired.required_sample_size
        else "fewer comparisons"
    )


def _pair(paired: Paired) -> PairCell:
    kind = _KINDS.get(paired.verdict, "alike")
    return PairCell(
        kind, _SIGNS[kind], paired.verdict, points(paired.difference.value), formatting.p_value(paired.p_holm)
    )


def points(difference: float) -> str:
    """0.0312 → ``+3.1``, with a true minus sign."""
    if not math.isfinite(difference):
        return formatting.ABSENT
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def interval(difference: Estimate) -> str:
    """``+1.2 to +5.0``, or nothing where it is undefined."""
    if not math.isfinite(difference.low):
        return ""
    return f"{points(difference.low)} to {points(difference.high)}"
