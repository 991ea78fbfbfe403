"""Calibration of each method: reliability diagrams and rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tametail.evaluation.calibration import Bin
from tametail.report.figures.svg import MUTED, SERIES, Drawing
from tametail.report.study.results import MethodResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 300, 268  # points


def reliability_drawing(result: MethodResults, name: str) -> Drawing:
    """Accuracy by confidence with 95 % limits; open diamonds are with the calibration map.

    Args:
        result: a method with its calibration.
        name: of the drawing.
    """
    found = result.calibration
    assert found is not None

    def draw(_: Figure, axes: Any) -> None:
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        x, low, high = (
            [100 * getattr(one, name) for one in found.bins] for name in ("confidence", "low", "high")
        )
        axes.vlines(x, low, high, color=SERIES[0], linewidth=1.5)
        _points(axes, found.bins, "o", SERIES[0], markersize=5, label="as given")
        if found.after is not None:
            _points(
                axes,
                found.after.bins,
                "D",
                SERIES[1],
                markersize=4.5,
                markerfacecolor="none",
                label="calibrated",
            )
        axes.set_xlim(0, 102)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("accuracy, %")
        axes.yaxis.set_tick_params(labelcolor=MUTED, labelsize=9.5)

    spoken = ", ".join(
        f"confidence {100 * one.confidence:.0f} %: accuracy {100 * one.accuracy:.0f} %" for one in found.bins
    )
    said = f"Reliability of {result.method}: {spoken}"
    return Drawing(name, said, _WIDTH, _HEIGHT, draw, title=result.method, margins=(46, 38, 8, 8))


def _points(axes: Any, bins: Sequence[Bin], marker: str, colour: str, **style: Any) -> None:
    x, y = [100 * one.confidence for one in bins], [100 * one.accuracy for one in bins]
    axes.plot(x, y, marker=marker, color=colour, linewidth=1, linestyle="-", **style)
