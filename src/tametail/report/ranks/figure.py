"""The critical-difference plot (Demsar 2006): methods at their mean ranks, bars over those that do not differ significantly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tametail.evaluation.multi_dataset import Ranks
from tametail.report.figures.svg import INK, MUTED, SERIES, Drawing
from tametail.report.formatting import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AXIS, _LINE, _TOP, _BAR = 330, 21, 62, 11  # points
_LETTER, _MARGIN = 5.9, 52  # points: a letter of a name, and the space around the name
_LONGEST = 30


def critical_difference_drawing(ranks: Ranks, bars: tuple[tuple[int, ...], ...], title: str) -> Drawing:
    """Draw mean ranks, the best on the left, with the better half of the names on the left and the others on the right.

    Args:
        ranks: of the methods.
        bars: `Ranks.cliques` or `Ranks.wilcoxon_cliques`.
        title: shown above it in a file.
    """
    methods, half = len(ranks.methods), (len(ranks.methods) + 1) // 2
    longest = max(len(shorten(method, _LONGEST)) for method in ranks.methods)
    width = _AXIS + 2 * (_LETTER * longest + _MARGIN)
    margin = (1 - _AXIS / width) / 2
    below = float(_BAR * (len(bars) + 1))
    height = _TOP + below + _LINE * half + 6

    def draw(_: Figure, axes: Any) -> None:
        def x(rank: float) -> float:
            return margin + (1 - 2 * margin) * (rank - 1) / (methods - 1)

        axes.set_xlim(0, 1)
        axes.set_ylim(height, 0)
        axes.axis("off")
        axes.plot([x(1), x(methods)], [_TOP, _TOP], color=INK, linewidth=1.1)
        step = max(1, (methods - 1) // 10)
        for rank in range(1, methods + 1, step):
            axes.plot([x(rank)] * 2, [_TOP - 5, _TOP], color=INK, linewidth=1.1)
            axes.text(x(rank), _TOP - 8, f"{rank}", ha="center", va="bottom", color=MUTED, fontsize=9.5)
        if ranks.critical_difference is not None:
            _ruler(axes, x(1), x(1 + ranks.critical_difference) - x(1), ranks.critical_difference)
        for place, bar in enumerate(bars):
            y = float(_TOP + _BAR * (place + 1))
            ends = [x(ranks.mean_ranks[bar[0]]) - 0.006, x(ranks.mean_ranks[bar[-1]]) + 0.006]
            axes.plot(ends, [y, y], color=SERIES[0], linewidth=4, solid_capstyle="round")
        for place, (method, mean) in enumerate(zip(ranks.methods, ranks.mean_ranks, strict=True)):
            left = place < half
            line = place if left else methods - 1 - place
            y = _TOP + below + _LINE * (line + 0.5)
            end = margin - 0.02 if left else 1 - margin + 0.02
            axes.plot([x(mean), x(mean), end], [_TOP, y, y], color=MUTED, linewidth=0.7, zorder=1)
            axes.plot([x(mean)], [_TOP], "o", color=SERIES[0], markersize=5, zorder=4)
            label = (
                f"{shorten(method, _LONGEST)}  {mean:.2f}"
                if left
                else f"{mean:.2f}  {shorten(method, _LONGEST)}"
            )
            side = "right" if left else "left"
            axes.text(end + (-0.008 if left else 0.008), y, label, ha=side, va="center", color=INK)

    placed = ", ".join(f"{m} {r:.2f}" for m, r in zip(ranks.methods, ranks.mean_ranks, strict=True))
    alike = "; ".join(" and ".join(ranks.methods[index] for index in bar) for bar in bars) or "none"
    said = f"Mean ranks, 1 is best: {placed}. No significant difference: {alike}."
    return Drawing("critical-difference", said, width, height, draw, title=title)


def _ruler(axes: Any, start: float, length: float, difference: float) -> None:
    """Draw the critical difference as a length."""
    y = 20
    axes.plot([start, start + length], [y, y], color=MUTED, linewidth=1.4)
    for end in (start, start + length):
        axes.plot([end, end], [y - 4, y + 4], color=MUTED, linewidth=1.4)
    axes.text(
        start + length / 2,
        y - 6,
        f"critical difference {difference:.2f}",
        ha="center",
        va="bottom",
        color=MUTED,
        fontsize=9.5,
    )
