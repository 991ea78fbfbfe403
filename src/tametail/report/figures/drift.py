"""A quantity over batches of new images, with what it is compared with and where an alarm was raised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tametail.evaluation.intervals import Estimate
from tametail.report.figures.svg import GRID, INK, MUTED, SERIES, Drawing
from tametail.report.formatting import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 380, 200  # points
_MOST_LABELS = 8
_LEAST_RANGE = 4.0  # percentage points of the vertical axis


def drift_drawing(
    name: str,
    title: str,
    estimates: Sequence[Estimate],
    labels: Sequence[str],
    *,
    limits: tuple[float, float],
    reference: float,
    alarm: int | None,
) -> Drawing:
    """Estimates with their intervals over T batches, in percent.

    Args:
        name: of the drawing.
        title: what the estimates are of.
        estimates: T of them; nan where nothing is known.
        labels: T short names of the batches.
        limits: a band behind the estimates; nan for none.
        reference: a dashed line; nan for none.
        alarm: the batch, from 0, at which an alarm was raised; None for no alarm.
    """

    def draw(_: Figure, axes: Any) -> None:
        if all(map(math.isfinite, limits)):
            axes.axhspan(*(100 * limit for limit in limits), color=GRID, alpha=0.55, linewidth=0, zorder=0)
        if math.isfinite(reference):
            axes.axhline(100 * reference, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        known = [(at, each) for at, each in enumerate(estimates) if math.isfinite(each.value)]
        for colour, raised in ((SERIES[0], False), (SERIES[1], True)):
            own = [each for each in known if (alarm is not None and each[0] >= alarm) == raised]
            x, y = [at for at, _ in own], [100 * each.value for _, each in own]
            bounded = [(at, each) for at, each in own if math.isfinite(each.low)]
            axes.vlines(
                [at for at, _ in bounded],
                [100 * each.low for _, each in bounded],
                [100 * each.high for _, each in bounded],
                color=colour,
                linewidth=1.5,
            )
            # Another shape too, for readers who do not see the colours.
            axes.plot(x, y, "D" if raised else "o", color=colour, markersize=4.5, linestyle="none")
        if alarm is not None:
            axes.axvline(alarm, color=SERIES[1], linewidth=1, linestyle=(0, (1, 2)))
            right = alarm > (len(labels) - 1) / 2
            axes.annotate(
                "alarm",
                (alarm, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if right else 4, 0),
                textcoords="offset points",
                ha="right" if right else "left",
                va="bottom",
                color=INK,
                fontsize=9.5,
            )
        tops = [each.high if math.isfinite(each.high) else each.value for _, each in known]
        bottoms = [each.low if math.isfinite(each.low) else each.value for _, each in known]
        wanted = [100 * each for each in (*tops, *bottoms, reference, *limits) if math.isfinite(each)]
        low, high = min(wanted, default=0.0), max(wanted, default=100.0)
        margin = max(0.06 * (high - low), (_LEAST_RANGE - (high - low)) / 2)
        axes.set_ylim(max(low - margin, -1.0), min(high + margin, 101.0))
        axes.set_xlim(-0.5, len(labels) - 0.5)
        step = math.ceil(len(labels) / _MOST_LABELS)
        axes.set_xticks(range(0, len(labels), step), labels[::step])
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("%")
        axes.yaxis.set_tick_params(labelcolor=MUTED, labelsize=9.5)

    spoken = ", ".join(
        f"{label}: {percent(each.value)} %" for label, each in zip(labels, estimates, strict=True)
    )
    raised = "no alarm" if alarm is None else f"alarm at {labels[alarm]}"
    return Drawing(
        name,
        f"{title} by batch, {raised}: {spoken}",
        _WIDTH,
        _HEIGHT,
        draw,
        title=title,
        margins=(42, 24, 8, 18),
    )
