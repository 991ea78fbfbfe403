"""The figures of a search: estimates, importance, and the scores over the space, one parameter or two at a time."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tametail.report.figures.svg import GRID, INK, MUTED, SERIES, Drawing
from tametail.report.search.results import SearchResults
from tametail.report.search.scales import Scale, scales

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 374
_LEAST_FOR_CONTOURS = 10  # trials
_PAIRED = 3  # most important parameters that are shown in pairs
_LEVELS = 7
_MOST_LABELS = 12


def estimates_drawing(results: SearchResults) -> Drawing:
    """The nested estimate, the default, and the best cross-validation score for comparison."""
    factor = 100 if results.in_percent else 1
    lines = [
        ("Tuned, nested estimate", results.nested("tuned"), SERIES[0], "o"),
        ("Default", results.nested("default"), SERIES[1], "s"),
    ]

    def draw(_: Figure, axes: Any) -> None:
        for place, (label, found, colour, marker) in enumerate(lines):
            axes.plot([factor * found.low, factor * found.high], [place, place], color=colour, linewidth=2)
            axes.plot([factor * found.value], [place], marker, color=colour, markersize=7)
            axes.annotate(
                f"{label}:  {factor * found.value:.{1 if results.in_percent else 2}f}",
                (0, place),
                (0, 12),
                va="center",
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
            )
        score = factor * results.result["best"]["score"]
        axes.plot([score], [2], "D", color=MUTED, markerfacecolor="none", markersize=7)
        axes.annotate(
            f"Best cross-validation score (not an estimate):  {score:.{1 if results.in_percent else 2}f}",
            (0, 2),
            (0, 12),
            va="center",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
        )
        axes.set_ylim(2.5, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{results.metric}{', %' if results.in_percent else ''} (95 % interval)")
        axes.margins(x=0.1)
        axes.grid(visible=False, axis="y")

    spoken = "; ".join(f"{label} {factor * found.value:.3g}" for label, found, *_ in lines)
    return Drawing("estimates", f"{results.metric}: {spoken}", _WIDTH, 170, draw)


def importance_drawing(results: SearchResults) -> Drawing | None:
    """Bars, the most important on top; None if importance is unknown."""
    shares = results.result["importance"]
    if not shares:
        return None
    ordered = sorted(shares.items(), key=lambda item: -item[1])

    def draw(_: Figure, axes: Any) -> None:
        places = np.arange(len(ordered))
        bars = axes.barh(places, [100 * share for _, share in ordered], height=0.62, color=SERIES[0])
        axes.bar_label(bars, [f"{100 * share:.0f} %" for _, share in ordered], padding=4, fontsize=9.5)
        axes.set_yticks(places, [name for name, _ in ordered])
        axes.invert_yaxis()
        axes.margins(x=0.16)
        axes.set_xlabel("share of the scores’ spread, %")
        axes.grid(visible=False, axis="y")

    spoken = ", ".join(f"{name} {100 * share:.0f} %" for name, share in ordered)
    return Drawing("importance", f"Importance: {spoken}", _WIDTH, 62 + 27 * len(ordered), draw)


def slice_drawings(results: SearchResults) -> list[Drawing]:
    """The scores of all trials over each dimension."""
    return [_slice(results, scale) for scale in scales(results.space).values()]


def _slice(results: SearchResults, scale: Scale) -> Drawing:
    factor = 100 if results.in_percent else 1
    trials = results.trials
    x = np.array([scale.at(trial.values[scale.name]) for trial in trials])
    y = factor * np.array([trial.score for trial in trials])
    alike = np.array([trial.indistinguishable for trial in trials])

    def draw(_: Figure, axes: Any) -> None:
        axes.plot(x[~alike], y[~alike], "o", color=SERIES[0], alpha=0.35, markersize=5, markeredgewidth=0)
        axes.plot(x[alike], y[alike], "o", color=SERIES[0], markersize=5.5, markeredgewidth=0)
        axes.plot(x[:1], y[:1], "D", color=SERIES[1], markersize=8, zorder=4)
        _ticks(axes, "x", scale)
        axes.yaxis.set_tick_params(labelcolor=MUTED)
        axes.set_ylabel(f"{results.metric}{', %' if results.in_percent else ''}")

    return Drawing(f"slice-{_plain(scale.name)}", f"{scale.name}", 300, 215, draw)


def contour_drawings(results: SearchResults) -> list[Drawing]:
    """The scores over each two of the most important dimensions; none if there are too few trials."""
    known = scales(results.space)
    shares = results.result["importance"] or dict.fromkeys(known, 0.0)
    names = sorted(
        (name for name in known if name in shares and not known[name].options), key=lambda name: -shares[name]
    )
    if len(results.trials) < _LEAST_FOR_CONTOURS:
        return []
    return [_contour(results, known[a], known[b]) for a, b in combinations(names[:_PAIRED], 2)]


def _contour(results: SearchResults, across: Scale, up: Scale) -> Drawing:
    factor = 100 if results.in_percent else 1
    x, y = (
        np.array([scale.at(trial.values[scale.name]) for trial in results.trials]) for scale in (across, up)
    )
    z = factor * np.array([trial.score for trial in results.trials])

    def draw(_: Figure, axes: Any) -> None:
        # From the worst quarter upwards: a few very bad trials would leave one colour to all others.
        levels = _levels(z)
        if len(levels) > 2 and _spread_out(x, y):
            shades = [
                (SERIES[0], 0.05 + 0.9 * (step / (len(levels) - 1)) ** 1.5) for step in range(len(levels) - 1)
            ]
            drawn = axes.tricontourf(x, y, np.clip(z, levels[0], levels[-1]), levels=levels, colors=shades)
            bar = axes.figure.colorbar(drawn, ax=axes, format="%.3g", aspect=30)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelcolor=MUTED, color=GRID, labelsize=8.5)
        axes.plot(x, y, "o", color=INK, alpha=0.55, markersize=2.6, markeredgewidth=0)
        axes.plot(x[:1], y[:1], "D", color=SERIES[1], markersize=8, zorder=4)
        axes.grid(visible=False)
        _ticks(axes, "x", across)
        _ticks(axes, "y", up)

    name = f"contour-{_plain(across.name)}-{_plain(up.name)}"
    said = f"{across.name} and {up.name}"
    return Drawing(name, said, 330, 262, draw)


def _levels(z: NDArray[np.float64]) -> list[float]:
    low, high = float(np.quantile(z, 0.25)), float(z.max())
    return np.linspace(low, high, _LEVELS + 1).tolist() if high - low > 1e-9 else []


def _spread_out(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether the points span a plane, so that they can be triangulated."""
    return len(set(zip(x.tolist(), y.tolist(), strict=True))) > 3 and bool(
        np.linalg.matrix_rank(np.stack([x - x.mean(), y - y.mean()]), tol=1e-6) == 2
    )


def _ticks(axes: Any, side: str, scale: Scale) -> None:
    places, labels = scale.ticks()
    step = -(-len(places) // _MOST_LABELS)
    getattr(axes, f"set_{side}ticks")(places[::step], labels[::step])
    getattr(axes, f"set_{side}lim")(-0.04, 1.04)
    getattr(axes, f"set_{side}label")(f"{scale.name}{' (log)' if scale.log else ''}")
    axes.tick_params(axis=side, labelcolor=MUTED)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
