"""recommend.html: the recommendation as one self-contained page in the style of the reports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tametail.evaluation.paired import Paired
from tametail.recommend.candidates import BASELINE
from tametail.recommend.narrative import HOW_TO_READ, Provenance, answer, next_command, title
from tametail.recommend.results import CandidateResult, RecommendationResults
from tametail.report import formatting
from tametail.report.figures.svg import INK, MUTED, SERIES, Drawing, inlined
from tametail.report.render import render
from tametail.report.study.narrative import SYNTHETIC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _ROW = 620, 23  # points


@dataclass(frozen=True)
class CandidateRow:
    """A row of the table: a candidate with its differences, None from itself."""

    candidate: CandidateResult
    recommended: bool
    indistinguishable: bool
    against_baseline: Paired | None
    against_best: Paired | None
    errors_below: float


def page(results: RecommendationResults, provenance: Provenance) -> str:
    """The page."""
    from markupsafe import Markup

    selection = results.selection
    rows = [
        CandidateRow(
            one,
            name == selection.recommended,
            name in selection.indistinguishable,
            None if name == BASELINE else selection.against_baseline[name].reversed(),
            None if name == selection.best else selection.against_best[name].reversed(),
            selection.standard_errors_below(name),
        )
        for name, one in results.candidates.items()
    ]
    return render(
        "recommend.html.j2",
        name=provenance.name,
        warnings=[*([SYNTHETIC] if provenance.synthetic else []), *provenance.unsafe],
        answer=answer(results),
        tiles=_tiles(results),
        figure=Markup(inlined(candidates_drawing(results))),
        command=next_command(results, provenance),
        rows=rows,
        class_groups=[group.name for group in results.baseline.class_groups],
        points=formatting.points,
        points_interval=formatting.points_interval,
        best=selection.best,
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
        (
            "Balanced accuracy",
            f"{formatting.percent(score.value)} %",
            formatting.percent_interval(score),
        ),
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

    def draw(figure: Figure, axes: Any) -> None:
        for place, one in enumerate(candidates):
            name, estimate = one.candidate.name, one.result.balanced_accuracy
            similar = name in selection.indistinguishable
            colour = SERIES[0] if similar else MUTED
            if math.isfinite(estimate.low):
                axes.plot(
                    [100 * estimate.low, 100 * estimate.high],
                    [place] * 2,
                    color=colour,
                    linewidth=1.8 if similar else 1.2,
                )
            fill = {} if similar else {"markerfacecolor": "none"}
            axes.plot([100 * estimate.value], [place], "o", color=colour, markersize=6.5, zorder=4, **fill)
            if name == selection.recommended:
                ring = {"markersize": 12.5, "markerfacecolor": "none", "zorder": 5}
                axes.plot([100 * estimate.value], [place], "o", color=INK, **ring)
        baseline = 100 * results.baseline.balanced_accuracy.value
        axes.axvline(baseline, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        axes.set_yticks(range(len(candidates)), [_label(results, one.candidate.name) for one in candidates])
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


def _label(results: RecommendationResults, name: str) -> str:
    return f"use  ▸  {name}" if name == results.selection.recommended else name
