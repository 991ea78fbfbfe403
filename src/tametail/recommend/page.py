"""recommend.html: the recommendation as one self-contained page in the style of the reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tametail.recommend.narrative import HOW_TO_READ, Provenance, answer, next_command, title
from tametail.recommend.results import RecommendationResults
from tametail.report import formatting
from tametail.report.figures.svg import INK, MUTED, SERIES, Drawing, inlined
from tametail.report.render import render
from tametail.report.study.narrative import SYNTHETIC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _ROW = 620, 23  # points


def page(results: RecommendationResults, provenance: Provenance) -> str:
    """The page."""
    from markupsafe import Markup

    return render(
        "recommend.html.j2",
        name=provenance.name,
        warnings=[*([SYNTHETIC] if provenance.synthetic else []), *provenance.unsafe],
        answer=answer(results),
        tiles=_tiles(results),
        figure=Markup(inlined(candidates_drawing(results))),
        command=next_command(results, provenance),
        candidates=results.candidates,
        selection=results.selection,
        class_groups=[group.name for group in results.baseline.class_groups],
        points=formatting.points,
        points_interval=formatting.points_interval,
        nested=[("The recommendation", results.nested), ("The highest estimate", results.nested_highest)],
        facts=_facts(results, provenance),
        failed=results.failed,
        reading=HOW_TO_READ,
    )


def _tiles(results: RecommendationResults) -> list[tuple[str, str, str]]:
    """Term, value and a note below it."""
    use, selection = results.recommended, results.selection
    score, nested = use.result.balanced_accuracy, results.nested.result.balanced_accuracy
    gain = results.nested.gain.difference
    return [
        ("Use", title(use), use.candidate.step),
        ("Balanced accuracy", f"{formatting.percent(score.value)} %", formatting.percent_interval(score)),
        ("Nested estimate", f"{formatting.percent(nested.value)} %", formatting.percent_interval(nested)),
        (
            "Nested, compared with ce",
            f"{formatting.points(gain.value)} points",
            formatting.points_interval(gain),
        ),
        (
            "Near the best",
            f"{len(selection.near)} of {len(results.candidates)}",
            f"within one standard error; {len(selection.indistinguishable)} without a significant difference",
        ),
    ]


def _facts(results: RecommendationResults, provenance: Provenance) -> list[tuple[str, str]]:
    counts = sorted(provenance.class_counts.items(), key=lambda item: -item[1])
    return [
        ("Images", formatting.images_and_groups(results.baseline.n, results.baseline.groups)),
        ("Classes", ", ".join(f"{name} {count:,}" for name, count in counts)),
        ("Test set", f"{provenance.test_images:,} images, held out"),
        ("Folds and seeds", f"{provenance.folds} folds, {formatting.count_of(provenance.seeds, 'seed')}"),
        ("Trained", f"a linear head on {provenance.backbone}, frozen"),
        ("Splits", provenance.splits[:12]),
    ]


def candidates_drawing(results: RecommendationResults) -> Drawing:
    """All candidates with their intervals, the best on top; filled dots do not differ significantly from it."""
    candidates, selection = list(results.candidates.values()), results.selection
    labels = ["use  ▸  " * (name == selection.recommended) + name for name in results.candidates]

    def draw(figure: Figure, axes: Any) -> None:
        for place, one in enumerate(candidates):
            name, estimate = one.candidate.name, one.result.balanced_accuracy
            similar = name in selection.indistinguishable
            colour = SERIES[0] if similar else MUTED
            if math.isfinite(estimate.low):
                ends, width = [100 * estimate.low, 100 * estimate.high], 1.8 if similar else 1.2
                axes.plot(ends, [place] * 2, color=colour, linewidth=width)
            fill = {} if similar else {"markerfacecolor": "none"}
            axes.plot([100 * estimate.value], [place], "o", color=colour, markersize=6.5, zorder=4, **fill)
            if name == selection.recommended:
                ring = {"markersize": 12.5, "markerfacecolor": "none", "zorder": 5}
                axes.plot([100 * estimate.value], [place], "o", color=INK, **ring)
        baseline = 100 * results.baseline.balanced_accuracy.value
        axes.axvline(baseline, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        axes.set_yticks(range(len(candidates)), labels)
        axes.set_ylim(len(candidates) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.grid(visible=True, axis="x")
        axes.margins(x=0.05)
        axes.set_xlabel("balanced accuracy, % (95 % interval); the dashed line is plain cross-entropy")

    values = ", ".join(
        f"{one.candidate.name} {formatting.percent(one.result.balanced_accuracy.value)} %"
        for one in candidates
    )
    description = (
        f"Balanced accuracy: {values}. Not significantly different from the best: "
        f"{', '.join(selection.indistinguishable)}. Recommended: {selection.recommended}."
    )
    return Drawing("candidates", description, _WIDTH, 52 + _ROW * len(candidates), draw)
