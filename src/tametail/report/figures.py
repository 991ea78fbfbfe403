"""The report's figures, each a function from results to one inline SVG.

Colours are those of Okabe & Ito (2008), which the colour-blind can tell apart; markers differ too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tametail.evaluation import Estimate, Evaluation
from tametail.report.study_results import LossResults, StudyResults
from tametail.report.svg import GRID, HEAT, INK, MUTED, ON_HEAT, SERIES, drawing, inline

WIDTH = 374  # points; on a phone this is the whole width and the letters are still legible
LOG_SCALE_FROM = 20  # ratio of the largest to the smallest class
LARGEST_MATRIX = 40  # classes; beyond this a matrix cannot be read
_LARGEST_LABELLED = 15
_MARKERS = "osD^vPX*"
_NAME_LENGTH = 22


def tail(results: StudyResults) -> str:
    """Training images per class, the most frequent first."""
    counts = sorted(results.counts.train.items(), key=lambda item: (-item[1], item[0]))
    names, values = [name for name, _ in counts], np.array([count for _, count in counts])
    log = bool(values.max() > LOG_SCALE_FROM * max(values.min(), 1))
    with drawing(WIDTH, 46 + 20 * len(names)) as (figure, axes):
        places = np.arange(len(names))
        axes.barh(places, values, height=0.68, color=SERIES[0], log=log)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:,}",
                (max(value, 1), place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.5,
            )
        _classes_down(axes, names)
        axes.margins(x=0.16)
        if log:
            axes.set_xlim(left=0.8, right=values.max() ** 1.18)
        axes.set_xlabel("training images" + (" (log scale)" if log else ""))
        _grid(axes, "x")
        return inline(figure, "tail", "Training images per class: " + _spoken(counts))


def ranking(results: StudyResults) -> str:
    """Balanced accuracy out of fold with its 95 % interval, one line per loss, the best on top."""
    losses = results.ranking
    with drawing(WIDTH, 52 + 38 * len(losses)) as (figure, axes):
        for place, result in enumerate(losses):
            assert result.out_of_fold is not None
            estimate = result.out_of_fold.balanced_accuracy
            _whisker(axes, estimate, place, SERIES[0], "o", size=6.5)
            axes.annotate(
                f"{place + 1}.  {_short(result.loss, 44)}", (0, place), (0, 9), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center",
            )  # fmt: skip
        best = losses[0].out_of_fold
        assert best is not None
        axes.axvline(
            100 * best.balanced_accuracy.value, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=1
        )
        axes.set_ylim(len(losses) - 0.5, -0.72)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("balanced accuracy, % (line: 95 % interval)")
        axes.margins(x=0.08)
        _grid(axes, "x")
        spoken = [(r.loss, f"{100 * r.score:.1f} %") for r in losses if r.score is not None]
        return inline(figure, "ranking", "Balanced accuracy out of fold: " + _spoken(spoken))


def recall_by_class(results: StudyResults) -> str:
    """Recall of each class under each loss with its 95 % interval, the most frequent class on top."""
    losses = results.ranking[: len(SERIES)]
    order = sorted(results.class_names, key=lambda name: (-results.counts.train[name], name))
    row = 9 * len(losses) + 12
    with drawing(WIDTH, 70 + row * len(order) * 0.9) as (figure, axes):
        for index, result in enumerate(losses):
            assert result.out_of_fold is not None
            by_name = {of_class.name: of_class for of_class in result.out_of_fold.classes}
            shift = (index - (len(losses) - 1) / 2) * 0.74 / len(losses)
            for place, name in enumerate(order):
                label = _short(result.loss, 36) if place == 0 else None
                _whisker(
                    axes, by_name[name].recall, place + shift, SERIES[index], _MARKERS[index], label=label
                )
        for place in range(1, len(order)):
            axes.axhline(place - 0.5, color=GRID, linewidth=0.8)
        _classes_down(axes, [f"{_short(name)}  ({results.counts.train[name]:,})" for name in order])
        axes.set_xlim(-2, 102)
        axes.set_xlabel("recall, % (line: 95 % interval)")
        _grid(axes, "x")
        figure.legend(
            loc="outside upper left", ncols=2 if any(len(result.loss) > 14 for result in losses) else 3, handletextpad=0.3, columnspacing=1.4
        )
        return inline(
            figure, "recall", "Recall of each class under each loss; the numbers are in the table of classes"
        )


def confusion(result: LossResults, evaluation: Evaluation, number: int) -> str:
    """Where the images of each class (rows) went (columns): shares of the row in %, and counts if there is room."""
    names = [of_class.name for of_class in evaluation.classes]
    classes = len(names)
    totals = evaluation.confusion.sum(axis=1, keepdims=True)
    rates = np.divide(evaluation.confusion, totals, out=np.zeros_like(evaluation.confusion), where=totals > 0)
    side = max(WIDTH, 30 * classes) if classes <= _LARGEST_LABELLED else WIDTH
    with drawing(side, side) as (figure, axes):
        for row, column in np.argwhere(rates > 0):
            rate = float(rates[row, column])
            axes.add_patch(_cell(row, column, rate))
            if classes <= _LARGEST_LABELLED:
                _cell_text(axes, row, column, rate, float(evaluation.confusion[row, column]), classes)
        labels = [_short(name, 16) for name in names]
        size = 9.5 if classes <= 20 else 6
        axes.set_xticks(
            range(classes), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=size, color=INK
        )
        axes.set_yticks(range(classes), labels, fontsize=size)
        axes.set_xlim(-0.5, classes - 0.5)
        axes.set_ylim(classes - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(True)
        return inline(figure, f"confusion{number}", f"Confusion matrix of {result.loss}, out of fold")


def training_curve(result: LossResults, number: int) -> str:
    """Training loss per epoch: thin lines are runs, the thick one their mean."""
    curves = [history.groupby("epoch")["loss"].mean() for history in result.histories]
    longest = max(curves, key=len).index
    whole = [curve.to_numpy() for curve in curves if len(curve) == len(longest)]
    with drawing(WIDTH, 190) as (figure, axes):
        for curve in curves:
            axes.plot(curve.index, curve.to_numpy(), color=SERIES[0], linewidth=0.8, alpha=0.5)
        axes.plot(longest, np.mean(whole, axis=0), color=SERIES[0], linewidth=2)
        axes.yaxis.set_tick_params(labelcolor=MUTED, labelsize=9.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss")
        _grid(axes, "y")
        return inline(figure, f"curve{number}", f"Training loss of {result.loss} per epoch, {len(curves)} runs")


def _whisker(
    axes: Any,
    estimate: Estimate,
    place: float,
    colour: str,
    marker: str,
    *,
    size: float = 4.5,
    label: str | None = None,
) -> None:
    if np.isfinite(estimate.low):
        axes.plot([100 * estimate.low, 100 * estimate.high], [place, place], color=colour, linewidth=1.6)
    axes.plot([100 * estimate.value], [place], marker, color=colour, markersize=size, label=label)


def _cell(row: int, column: int, rate: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=HEAT, alpha=round(rate, 3), linewidth=0)


def _cell_text(axes: Any, row: int, column: int, rate: float, count: float, classes: int) -> None:
    colour = ON_HEAT if rate > 0.55 else INK
    room = classes <= 8
    axes.text(
        column, row - (0.14 if room else 0), f"{100 * rate:.0f}", color=colour, ha="center", va="center",
        fontsize=10 if room else 8.5,
    )  # fmt: skip
    if room:
        axes.text(column, row + 0.22, _count(count), color=colour, ha="center", va="center", fontsize=7.5)


def _count(count: float) -> str:
    return f"({count:.0f})" if count == round(count) else f"({count:.1f})"


def _classes_down(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name, 40) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def _grid(axes: Any, along: str) -> None:
    axes.grid(visible=False)
    axes.grid(visible=True, axis=along)


def _short(name: str, length: int = _NAME_LENGTH) -> str:
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


def _spoken(items: Sequence[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in items)
