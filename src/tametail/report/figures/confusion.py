"""The confusion matrix of one method as a figure: shares of each true class in %, the rarest classes last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.evaluation import Evaluation
from tametail.report.figures.svg import INK, MUTED, SERIES, Drawing
from tametail.report.formatting import shorten
from tametail.report.study.matrices import confusion_rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NUMBERED = 14  # classes; cells of larger matrices have no room for numbers
_CELL, _SMALL_CELL = 30, 13  # points
_NAMES = 130  # points for the names on a side
_LIGHT_FROM = 0.8  # share from which white letters have more contrast than dark ones
_LONGEST = 24


def confusion_drawing(method: str, evaluation: Evaluation, order: Sequence[int]) -> Drawing:
    """Draw true classes (rows) against predicted classes (columns).

    Args:
        method: name of the method.
        evaluation: its evaluation, of at most `MOST_CONFUSION_CLASSES` classes.
        order: class indices from the first row down.
    """
    counts, shares = confusion_rates(evaluation, order)
    names = [shorten(evaluation.classes[index].name, _LONGEST) for index in order]
    rows = [f"{name}  ({total:,.0f})" for name, total in zip(names, counts.sum(axis=1).tolist(), strict=True)]
    numbered = len(names) <= _MOST_NUMBERED

    def draw(_: Figure, axes: Any) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes.imshow(
            shares, cmap=LinearSegmentedColormap.from_list("shares", ["white", SERIES[0]]), vmin=0, vmax=1
        )
        places, size = range(len(names)), 9 if numbered else 6.5
        axes.set_xticks(places, names, rotation=90, fontsize=size)
        axes.set_yticks(places, rows, fontsize=size)
        axes.tick_params(length=0, labelcolor=INK)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true (images)")
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(MUTED)
        for (row, column), share in np.ndenumerate(shares) if numbered else ():
            if share > 0:
                colour = "white" if share > _LIGHT_FROM else INK
                text = "<1" if share < 0.005 else f"{100 * share:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8.5)

    hits = ", ".join(
        f"{name} {100 * share:.0f} %" for name, share in zip(names, np.diag(shares), strict=True)
    )
    side = (_CELL if numbered else _SMALL_CELL) * len(names) + _NAMES
    return Drawing(
        "confusion",
        f"Confusion matrix of {method}; recall: {hits}",
        side + 20,
        side,
        draw,
        title=f"{method}, %",
    )
