"""The figure of loss gradients over p and over z, as a picture or as a table of numbers.

Shape legend: N points of the grid.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tametail.report.figures.export import saved, settle
from tametail.report.figures.svg import GRID, INK, MUTED, SERIES, drawing_in_colour

Over = Literal["p", "z"]
GRADIENT_FORMATS = ("svg", "png", "pdf", "csv")
_PANEL = 262, 214  # points
_AXES = {"p": "predicted probability p = sigmoid(z)", "z": "logit z"}
_SLOPE = "gradient with respect to the logit z"
_DASHES = ("-", (0, (6, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.2, 2)), (0, (3, 1.5)), (0, (9, 2, 1.2, 2, 1.2, 2)))
_DOTS_PER_INCH = 200
_LETTERS = 46  # across a panel


@dataclass(frozen=True)
class Line:
    """One loss in a panel.

    Attributes:
        label: its name in the legend.
        value: (N,) the loss.
        slope: (N,) its gradient with respect to z.
        style: selects colour and dashes; a loss has the same style in every group.
    """

    label: str
    value: NDArray[np.float64]
    slope: NDArray[np.float64]
    style: int


@dataclass(frozen=True)
class Panel:
    """Lines of one kind of term.

    Attributes:
        target: ``positive`` (y = 1) or ``negative`` (y = 0).
        title: shown above it.
        lines: the losses.
    """

    target: Literal["positive", "negative"]
    title: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Group:
    """Panels side by side with one legend.

    Attributes:
        name: short, for the table of numbers.
        title: shown above it.
        panels: each with the same losses in the same order.
    """

    name: str
    title: str
    panels: Sequence[Panel]


def draw_gradients(
    groups: Sequence[Group], z: NDArray[np.float64], over: Sequence[Over], suffix: str
) -> bytes:
    """The content of a file: a picture with a row of panels for each of ``over``, or all numbers.

    The same input gives the same bytes.

    Args:
        groups: what to draw.
        z: grid (N,) of logits that all lines share.
        over: x axes: p, z, or both. A table always has both.
        suffix: one of ``GRADIENT_FORMATS``.
    """
    if suffix == "csv":
        return gradient_table(groups, z).encode()
    columns = [len(group.panels) for group in groups]
    rows = max(-(-len(group.panels[0].lines) // _legend_columns(group)) for group in groups)
    width, height = _PANEL[0] * sum(columns), _PANEL[1] * len(over) + 72 + 15 * rows
    with drawing_in_colour(width, height) as (figure, colours):
        parts = figure.subfigures(1, len(groups), width_ratios=columns, wspace=0.02, squeeze=False)[0]
        for part, group in zip(parts, groups, strict=True):
            _draw_group(part, group, z, over, colours)
            _draw_legend(part, _legend_columns(group), rows)
        settle(figure)
        return saved(figure, suffix, _DOTS_PER_INCH)


def gradient_table(groups: Sequence[Group], z: NDArray[np.float64]) -> str:
    """CSV with a row for each point of each line: group, loss, target, z, p, value, slope."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["group", "loss", "target", "z", "p", "value", "slope"])
    for group in groups:
        for panel in group.panels:
            for line in panel.lines:
                points = zip(z, _sigmoid(z), line.value, line.slope, strict=True)
                rows.writerows(
                    [group.name, line.label, panel.target, *(f"{number + 0.0:.10g}" for number in point)]
                    for point in points
                )
    return text.getvalue()


def _draw_group(
    part: Any, group: Group, z: NDArray[np.float64], over: Sequence[Over], colours: dict[str, str]
) -> None:
    part.suptitle(group.title, fontsize=12.5, fontweight="bold", color=colours[INK])
    grid = part.subplots(len(over), len(group.panels), squeeze=False, sharey="col")
    for row, axis in zip(grid, over, strict=True):
        for axes, panel in zip(row, group.panels, strict=True):
            _draw_panel(axes, panel, z, axis, colours)
        row[0].set_ylabel(_SLOPE)
    for axes, panel in zip(grid[0], group.panels, strict=True):
        axes.set_title(panel.title, fontsize=10.5, color=colours[INK], loc="left")


def _legend_columns(group: Group) -> int:
    """How many labels of the group fit side by side."""
    labels = [line.label for line in group.panels[0].lines]
    room = _LETTERS * len(group.panels) // (max(map(len, labels)) + 12)
    return max(1, min(len(labels), room))


def _draw_legend(part: Any, columns: int, rows: int) -> None:
    """Draw the legend below a group, padded to a number of rows, so that the panels of all groups align."""
    from matplotlib.lines import Line2D

    handles = part.axes[0].get_legend_handles_labels()[0]
    filled = -(-len(handles) // columns)
    blank = Line2D([], [], linestyle="none", label=" ")
    padded = []
    for start in range(0, len(handles), filled):
        column = handles[start : start + filled]
        padded += column + [blank] * (rows - len(column))
    part.legend(
        handles=padded, loc="outside lower center", ncols=len(padded) // rows, fontsize=10, handlelength=3.2
    )


def _draw_panel(axes: Any, panel: Panel, z: NDArray[np.float64], axis: Over, colours: dict[str, str]) -> None:
    x = _sigmoid(z) if axis == "p" else z
    axes.axhline(0, color=colours[MUTED], linewidth=0.8, zorder=1)
    for line in panel.lines:
        index, again = line.style % len(SERIES), line.style // len(SERIES)
        axes.plot(
            x,
            line.slope,
            label=line.label,
            color=colours[SERIES[index]],
            linestyle=_DASHES[(index + again) % len(_DASHES)],
            linewidth=2,
        )
    axes.set_xlabel(_AXES[axis])
    axes.set_xlim((0, 1) if axis == "p" else (z[0], z[-1]))
    axes.xaxis.get_major_locator().set_params(steps=[1, 2, 4, 10])
    axes.grid(color=colours[GRID])


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))
