"""ROC and precision-recall curves of the rarest classes of a method, and decision curves of several methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tametail.report.figures.svg import GRID, MUTED, SERIES, Drawing
from tametail.report.formatting import shorten
from tametail.report.study.results import MethodResults, StudyResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 300, 300  # points
_STYLES = ("-", "--", "-.", ":")


def drawn_classes(results: StudyResults) -> list[str]:
    """The classes that have curves, the most frequent first."""
    curves = results.ranking[0].curves
    names = [results.class_names[index] for index in results.by_frequency]
    return [name for name in names if name in curves and len(curves[name][0].x)]


def roc_drawing(results: StudyResults) -> Drawing:
    """Sensitivity by false-positive rate of the rarest classes under the best method."""
    return _of_classes(results, 0, "false-positive rate, %", "sensitivity, %", "ROC curves")


def precision_recall_drawing(results: StudyResults) -> Drawing:
    """Precision by recall of the rarest classes under the best method."""
    return _of_classes(results, 1, "recall, %", "precision, %", "Precision-recall curves")


def _of_classes(results: StudyResults, which: int, x: str, y: str, title: str) -> Drawing:
    best, names = results.ranking[0], drawn_classes(results)

    def draw(_: Figure, axes: Any) -> None:
        if not which:
            axes.plot([0, 100], [0, 100], color=GRID, linewidth=1)
        for place, name in enumerate(names):
            curve = best.curves[name][which]
            style = {"color": SERIES[place], "linestyle": _STYLES[place % len(_STYLES)], "linewidth": 1.6}
            axes.plot(100 * curve.x, 100 * curve.y, label=shorten(name, 18), **style)
        axes.set(xlim=(-1, 101), ylim=(-1, 102))
        _finish(axes, x, y)

    said = f"{title} of {best.method}: {', '.join(names)}; AUROC and AP are in the table of classes"
    name = "precision-recall" if which else "roc"
    return Drawing(name, said, _WIDTH, _HEIGHT, draw, margins=_margins(len(names)))


def decision_drawing(methods: Sequence[MethodResults]) -> Drawing:
    """Net benefit by threshold of methods that have a decision curve, beside acting on all images and on none."""
    shown = [(one.method, one.decision) for one in methods if one.decision is not None][: len(SERIES)]
    first = shown[0][1]
    thresholds = [100 * point.threshold for point in first.points]

    def draw(_: Figure, axes: Any) -> None:
        treat_all = [point.treat_all.value for point in first.points]
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.plot(thresholds, treat_all, color=MUTED, linewidth=1, linestyle=":", label="act on all")
        for place, (name, curve) in enumerate(shown):
            values = [point.model.value for point in curve.points]
            style = {"color": SERIES[place], "linestyle": _STYLES[place % len(_STYLES)], "linewidth": 1.6}
            axes.plot(thresholds, values, label=shorten(name, 18), **style)
            if not place:
                low, high = ([getattr(p.model, end) for p in curve.points] for end in ("low", "high"))
                axes.fill_between(thresholds, low, high, color=SERIES[0], alpha=0.15, linewidth=0)
        top = max(point.model.high for point in first.points)
        axes.set(xlim=(0, 100), ylim=(-0.25 * top, 1.05 * top))
        _finish(axes, f"threshold of the probability of {first.class_name}, %", "net benefit")

    said = f"Net benefit for {first.class_name} by threshold: {', '.join(name for name, _ in shown)}"
    return Drawing("decision", said, _WIDTH, _HEIGHT, draw, margins=_margins(len(shown) + 1))


def _margins(entries: int) -> tuple[float, float, float, float]:
    """Of a figure with a legend of so many entries in two columns above it."""
    return 50, 38, 8, 12 + 15 * -(-entries // 2)


def _finish(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.yaxis.set_tick_params(labelcolor=MUTED, labelsize=9.5)
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(ncols=2, fontsize=9, handlelength=1.8, columnspacing=1.2, **place)
