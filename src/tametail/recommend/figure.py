"""The picture of a recommendation: all candidates with their intervals, sorted, and which are not significantly different from the best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tametail.recommend.candidates import PLAIN
from tametail.recommend.findings import Findings
from tametail.report import formatting
from tametail.report.figures.svg import INK, MUTED, SERIES, Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _ROW = 620, 23  # points
_ALIKE, _APART = SERIES[0], MUTED


def candidates_drawing(findings: Findings) -> Drawing:
    """One line per candidate, the best on top: full dots are not significantly different from it, empty ones are; a ring is to be used."""
    tried, choice = list(findings.tried.values()), findings.choice

    def draw(figure: Figure, axes: Any) -> None:
        for place, one in enumerate(tried):
            name, estimate = one.candidate.name, one.result.balanced_accuracy
            alike = name in choice.alike
            colour = _ALIKE if alike else _APART
            if math.isfinite(estimate.low):
                axes.plot(
                    [100 * estimate.low, 100 * estimate.high],
                    [place] * 2,
                    color=colour,
                    linewidth=1.8 if alike else 1.2,
                )
            full = {} if alike else {"markerfacecolor": "none"}
            axes.plot([100 * estimate.value], [place], "o", color=colour, markersize=6.5, zorder=4, **full)
            if name == choice.use:
                axes.plot(
                    [100 * estimate.value],
                    [place],
                    "o",
                    color=INK,
                    markersize=12.5,
                    markerfacecolor="none",
                    zorder=5,
                )
        plain = 100 * findings.tried[PLAIN].result.balanced_accuracy.value
        axes.axvline(plain, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        axes.set_yticks(range(len(tried)), [_label(findings, one.candidate.name) for one in tried])
        axes.set_ylim(len(tried) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.grid(visible=True, axis="x")
        axes.margins(x=0.05)
        axes.set_xlabel("balanced accuracy, % (95 % interval); the dashed line is plain cross-entropy")

    spoken = ", ".join(
        f"{one.candidate.name} {formatting.percent(one.result.balanced_accuracy.value)} %" for one in tried
    )
    said = f"Balanced accuracy: {spoken}. Not significantly different from the best: {', '.join(choice.alike)}. To use: {choice.use}."
    return Drawing("candidates", said, _WIDTH, 52 + _ROW * len(tried), draw)


def _label(findings: Findings, name: str) -> str:
    return f"use  ▸  {name}" if name == findings.choice.use else name
