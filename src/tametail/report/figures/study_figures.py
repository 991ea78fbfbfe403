"""The figures of a study: each function returns a `Drawing` of the results.

Colours are those of Okabe & Ito (2008), distinguishable with colour blindness; markers differ too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tametail.evaluation import Estimate
from tametail.evaluation.metric_registry import metric_facts
from tametail.report.figures.svg import GRID, MUTED, SERIES, Drawing
from tametail.report.formatting import percent_with_interval, sentence_case, shorten
from tametail.report.study.narrative import comparison_terms
from tametail.report.study.results import MethodResults, StudyResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 374  # points; on a phone this is the whole width and the letters are still legible
LOG_SCALE_FROM = 20  # ratio of the largest to the smallest class
MOST_METHODS = len(SERIES)  # in one figure
MOST_NAMED_CLASSES = 40  # names of more classes are unreadable
MOST_BARS_ACROSS = 14
_MARKERS = "osD^vPX*"
_NAME_LENGTH = 22
_LONG_NAME = 20  # letters of a method from which the legend has one column


def _ranking_height(methods: int) -> int:
    return 48 + 36 * methods


def _bars_height(classes: int) -> int:
    return 46 + 20 * classes if classes <= MOST_BARS_ACROSS else 250


def tail_drawing(results: StudyResults) -> Drawing:
    """Training images per class, the most frequent class first."""
    names = [results.class_names[index] for index in results.by_frequency]
    images = comparison_terms(results).images
    counts = [results.counts.train[name] for name in names]
    return count_drawing(names, counts, f"{sentence_case(images)} per class", images)


def count_drawing(names: Sequence[str], counts: Sequence[int], title: str, unit: str = "images") -> Drawing:
    """Counts per class in the given order: bars, or dots on a log axis; upright for many classes."""
    values = np.array(counts)
    across = len(names) <= MOST_BARS_ACROSS

    def draw(_: Figure, axes: Any) -> None:
        places = np.arange(len(names))
        if across:
            if _is_log(values):  # bars on a log scale have no length that means anything
                axes.plot(np.maximum(values, 1), places, "o", color=SERIES[0], markersize=6.5)
                for place, value in zip(places, values, strict=True):
                    spot = {"xytext": (9, 0), "textcoords": "offset points", "va": "center", "fontsize": 9.5}
                    axes.annotate(f"{value:,}", (max(value, 1), place), **spot)
            else:
                bars = axes.barh(places, values, height=0.68, color=SERIES[0])
                axes.bar_label(bars, [f"{value:,}" for value in values], padding=4, fontsize=9.5)
            axes.margins(x=0.16)
            _classes_down(axes, names)
        else:
            if _is_log(values):
                axes.plot(places, np.maximum(values, 1), "o", color=SERIES[0], markersize=3.5)
            else:
                axes.bar(places, values, width=0.8, color=SERIES[0])
            legible = len(names) <= MOST_NAMED_CLASSES
            axes.set_xticks(
                places if legible else [],
                [shorten(name, _NAME_LENGTH) for name in names] if legible else [],
                rotation=90,
                fontsize=8,
            )
            axes.set_xlim(-0.6, len(names) - 0.4)
            axes.yaxis.set_tick_params(labelcolor=MUTED, labelsize=9.5)
        _count_axis(axes, "x" if across else "y", values, unit)

    spoken = f"{title}: {_spoken(list(zip(names, values, strict=True)))}"
    return Drawing(
        "tail",
        spoken,
        WIDTH,
        _bars_height(len(names)),
        draw,
        margins=(None, 38, 8, 4) if across else None,
    )


def ranking_drawing(results: StudyResults) -> Drawing:
    """The score that ranks the methods with its 95 % interval, one line per method, the best on top."""
    methods = results.ranking

    def draw(_: Figure, axes: Any) -> None:
        for place, result in enumerate(methods):
            assert result.out_of_fold is not None
            estimate = result.out_of_fold.score
            _whisker(axes, estimate, place, SERIES[0], "o", size=6.5)
            label = f"{place + 1}. {shorten(result.method, 36)}:  {percent_with_interval(estimate)}"
            above = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            axes.annotate(label, (0, place), (0, 10.5), va="center", **above)
        best = methods[0].out_of_fold
        assert best is not None
        axes.axvline(100 * best.score.value, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=1)
        axes.set_ylim(len(methods) - 0.5, -0.72)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{results.headline}, % (95 % interval)")
        axes.margins(x=0.08)
        _grid(axes, "x")

    spoken = [(r.method, f"{100 * r.score:.1f} %") for r in methods if r.score is not None]
    said = f"{results.headline.capitalize()} {comparison_terms(results).where}: {_spoken(spoken)}"
    return Drawing("ranking", said, WIDTH, _ranking_height(len(methods)), draw, margins=(8, 38, 8, 4))


def class_drawing(results: StudyResults, methods: Sequence[MethodResults], metric: str) -> Drawing:
    """A metric of each class (or label) under each of some methods with its 95 % interval, the most frequent class on top."""
    title = metric_facts(metric).title

    def values(result: MethodResults) -> list[Estimate]:
        assert result.out_of_fold is not None
        return result.out_of_fold.by_class(metric)

    return _by_class(results, methods[:MOST_METHODS], values, metric, title)


def _by_class(
    results: StudyResults,
    methods: Sequence[MethodResults],
    choose: Callable[[MethodResults], Sequence[Estimate]],
    metric: str,
    title: str,
) -> Drawing:
    """A row for each class (or label), with an interval for each method."""
    order = results.by_frequency
    names = [results.class_names[index] for index in order]

    def draw(_: Figure, axes: Any) -> None:
        for index, result in enumerate(methods):
            estimates = choose(result)
            shift = (index - (len(methods) - 1) / 2) * 0.74 / len(methods)
            for place, of_class in enumerate(order):
                label = shorten(result.method, 36) if place == 0 else None
                _whisker(
                    axes, estimates[of_class], place + shift, SERIES[index], _MARKERS[index], label=label
                )
        for place in range(1, len(order)):
            axes.axhline(place - 0.5, color=GRID, linewidth=0.8)
        _classes_down(
            axes, [f"{shorten(name, _NAME_LENGTH)}  ({results.counts.train[name]:,})" for name in names]
        )
        axes.set_xlim(-2, 102)
        axes.set_xlabel(f"{title}, % (95 % interval)")
        _grid(axes, "x")
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(ncols=columns, handletextpad=0.3, columnspacing=1.4, **above)

    unit, plural = ("label", "labels") if results.multi_label else ("class", "classes")
    said = f"{title} of each {unit} under each method; the numbers are in the table of {plural}"
    columns = 1 if any(len(result.method) > _LONG_NAME for result in methods) else 2
    legend = 10 + 15 * -(-len(methods) // columns)
    height = 42 + legend + (9 * len(methods) + 12) * len(order) * 0.9
    return Drawing(metric.replace("_", "-"), said, WIDTH, height, draw, margins=(None, 38, 10, legend))


def training_drawing(result: MethodResults, name: str) -> Drawing:
    """Training loss per epoch or iteration: thin lines are runs, the thick line is the mean of the longest."""
    unit = "iteration" if result.endings else "epoch"
    curves = [history.groupby("epoch")["loss"].mean() for history in result.histories]
    longest = max(curves, key=len).index
    whole = [curve.to_numpy() for curve in curves if len(curve) == len(longest)]

    def draw(_: Figure, axes: Any) -> None:
        for curve in curves:
            axes.plot(curve.index, curve.to_numpy(), color=SERIES[0], linewidth=0.8, alpha=0.5)
        axes.plot(longest, np.mean(whole, axis=0), color=SERIES[0], linewidth=2)
        axes.yaxis.set_tick_params(labelcolor=MUTED, labelsize=9.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(unit)
        axes.set_ylabel("training loss and penalty" if result.endings else "training loss")
        _grid(axes, "y")

    return Drawing(
        name,
        f"Training loss of {result.method} per {unit}, {len(curves)} runs",
        300,
        190,
        draw,
        margins=(50, 38, 8, 8),
    )


def _is_log(values: NDArray[np.int64]) -> bool:
    """Whether rare classes would be invisible on a linear axis."""
    return bool(values.max() > LOG_SCALE_FROM * max(values.min(), 1))


def _count_axis(axes: Any, along: str, values: NDArray[np.int64], unit: str) -> None:
    """Format the axis of image counts: logarithmic where rare classes would otherwise be invisible."""
    log = _is_log(values)
    if log:
        axes.set(**{f"{along}scale": "log", f"{along}lim": (0.8, values.max() ** 1.18)})
        (axes.xaxis if along == "x" else axes.yaxis).minorticks_off()
    axis = axes.xaxis if along == "x" else axes.yaxis
    if not log:
        axis.get_major_locator().set_params(integer=True)
    axis.set_major_formatter("{x:,.0f}")
    axes.set(**{f"{along}label": unit + (" (log scale)" if log else "")})
    _grid(axes, along)


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


def _classes_down(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shorten(name, 40) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def _grid(axes: Any, along: str) -> None:
    axes.grid(visible=False)
    axes.grid(visible=True, axis=along)


def _spoken(items: Sequence[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in items)
