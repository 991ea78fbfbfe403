"""Reliability: how far the probabilities of each loss can be taken at their word, as a figure and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.evaluation import Estimate
from tametail.evaluation.calibration import Bin
from tametail.report.figures.svg import MUTED, SERIES, Drawing, inlined
from tametail.report.study.results import MethodResults, StudyResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 300, 268  # points
_CLEAR = 0.02  # points of confidence less accuracy from which a model is called too sure, or not sure enough


@dataclass(frozen=True)
class CalibrationRow:
    """Calibration of a loss as it comes and after temperature (nan where none was fitted), and a word on it."""

    method: str
    ece: float
    ece_after: float
    brier: Estimate
    brier_after: float
    temperature: float
    manner: str


def calibration_rows(results: StudyResults) -> list[CalibrationRow]:
    """One row per ranked loss that was looked at."""
    rows = []
    for result in results.ranking:
        found = result.calibration
        if found is None:
            continue
        after = found.after
        rows.append(
            CalibrationRow(
                result.method,
                found.ece,
                after.ece if after else float("nan"),
                found.brier,
                after.brier.value if after else float("nan"),
                found.temperature,
                manner(found.bins),
            )
        )
    return rows


def manner(bins: Sequence[Bin]) -> str:
    """Whether confidence lies above accuracy or below it, over all images."""
    n = np.array([one.n for one in bins], dtype=np.float64)
    gap = float(np.sum(n * [one.confidence - one.accuracy for one in bins]) / n.sum())
    if abs(gap) < _CLEAR:
        return "about right on average"
    return f"{'too sure' if gap > 0 else 'not sure enough'}, by {100 * abs(gap):.0f} points"


def reliability(result: MethodResults, number: int) -> str:
    """Share of right decisions by confidence, with 95 % limits; open diamonds are those after temperature.

    Args:
        result: a loss with its calibration.
        number: tells the figures of a page apart.
    """
    return inlined(reliability_drawing(result, f"reliability{number}"))


def reliability_drawing(result: MethodResults, name: str) -> Drawing:
    """The same, yet to be drawn under this name."""
    found = result.calibration
    assert found is not None

    def draw(_: Figure, axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        x, low, high = (
            [100 * getattr(one, name) for one in found.bins] for name in ("confidence", "low", "high")
        )
        axes.vlines(x, low, high, color=SERIES[0], linewidth=1.5)
        _points(axes, found.bins, "o", SERIES[0], markersize=5, label="as predicted")
        if found.after is not None:
            _points(
                axes,
                found.after.bins,
                "D",
                SERIES[1],
                markersize=4.5,
                markerfacecolor="none",
                label="after temperature",
            )
        axes.set_xlim(0, 102)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("right, %")
        axes.yaxis.set_tick_params(labelcolor=MUTED, labelsize=9.5)

    spoken = ", ".join(
        f"{100 * one.confidence:.0f} % sure: {100 * one.accuracy:.0f} % right" for one in found.bins
    )
    said = f"Reliability of {result.method}: {spoken}"
    return Drawing(name, said, _WIDTH, _HEIGHT, draw, title=result.method)


def _points(axes: Any, bins: Sequence[Bin], marker: str, colour: str, **style: Any) -> None:
    x, y = [100 * one.confidence for one in bins], [100 * one.accuracy for one in bins]
    axes.plot(x, y, marker=marker, color=colour, linewidth=1, linestyle="-", **style)
