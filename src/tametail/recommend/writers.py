"""A recommendation as recommend.json, recommend.md, recommend.html, and as text for the terminal."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.atomic import write_atomically
from tametail.core.console import printable
from tametail.core.errors import explain_save_error
from tametail.core.text import align_columns
from tametail.core.version import __version__
from tametail.evaluation import Estimate
from tametail.evaluation.paired import Paired
from tametail.recommend import metric_text
from tametail.recommend.narrative import (
    Provenance,
    answer,
    how_to_read,
    methods_to_compare,
    next_command,
    title,
)
from tametail.recommend.objective import Objective, parse_objective
from tametail.recommend.outputs import OBJECTIVE, RECOMMEND_HTML, RECOMMEND_JSON, RECOMMEND_MD
from tametail.recommend.results import (
    CandidateResult,
    Evaluated,
    NestedSelection,
    RecommendationResults,
    shown,
)
from tametail.recommend.selection import rule
from tametail.report import formatting
from tametail.report.figures.svg import INK, MUTED, SERIES, Drawing, inlined
from tametail.report.formatting import ABSENT, percent_with_interval
from tametail.report.render import render
from tametail.report.study.narrative import SYNTHETIC
from tametail.report.writers.markdown_table import NUMBER, markdown_lines, markdown_text
from tametail.storage.identity import SCHEMA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 100  # of the terminal
_FIGURE_WIDTH, _ROW = 620, 23  # points


def write_files(directory: Path, results: RecommendationResults, provenance: Provenance) -> None:
    """Write the three files after all of them were made, recommend.json last.

    Raises:
        TametailError: one cannot be written.
    """
    files = {
        RECOMMEND_MD: as_markdown(results, provenance),
        RECOMMEND_HTML: page(results, provenance),
        RECOMMEND_JSON: json.dumps(as_json(results, provenance), indent=1, ensure_ascii=False) + "\n",
    }
    for name, content in files.items():
        with explain_save_error(directory / name):
            write_atomically(directory / name, content)


def as_json(results: RecommendationResults, provenance: Provenance) -> dict[str, Any]:
    """All numbers; shares in 0..1, null where undefined.

    Differences are those of the objective itself, so that one below 0 is better where the objective is log-loss.
    """
    selection, baseline, objective = results.selection, results.baseline.result, results.objective
    return {
        "schema": SCHEMA,
        "tametail": __version__,
        "name": provenance.name,
        "synthetic": provenance.synthetic,
        OBJECTIVE: objective.name,
        "recommended": selection.recommended,
        "methods_to_compare": methods_to_compare(results),
        "best": selection.best,
        "within_one_standard_error": list(selection.near),
        "not_significantly_different_from_best": list(selection.indistinguishable),
        "better_than_baseline": list(selection.better_than_baseline),
        "answer": answer(results),
        "next_command": next_command(results, provenance),
        "rule": rule(objective),
        "images": baseline.n,
        "groups": baseline.groups,
        "class_counts": dict(provenance.class_counts),
        "test_images": provenance.test_images,
        "folds": provenance.folds,
        "seeds": provenance.seeds,
        "splits": provenance.splits,
        "backbone": provenance.backbone,
        "features": provenance.features,
        "recipe": dict(provenance.recipe),
        "share_adjusting_best": results.share_adjusting_best,
        "nested": _nested(objective, results.nested),
        "nested_best": _nested(objective, results.nested_best),
        "candidates": [_candidate(results, one) for one in results.candidates.values()],
        "failed": dict(results.failed),
    }


def _metrics(one: Evaluated, objective: Objective) -> dict[str, Any]:
    return {metric: one.estimate(metric).as_dict() for metric in shown(objective)}


def _nested(objective: Objective, nested: NestedSelection) -> dict[str, Any]:
    return {
        **_metrics(nested, objective),
        "against_baseline": _pair(objective, nested.gain),
        "selected_by_fold": list(nested.selected),
    }


def _candidate(results: RecommendationResults, one: CandidateResult) -> dict[str, Any]:
    selection, candidate, result = results.selection, one.candidate, one.result
    name = candidate.name
    return {
        "name": name,
        "step": candidate.step,
        "adjusts": candidate.adjusts,
        "method": one.final.method,
        "tuned": _tuned(one),
        **_metrics(one, results.objective),
        "recall_by_class_group": {
            group: recall.as_dict() for group, recall in result.class_group_recall.items()
        },
        "recall_by_class": {row.name: result["recall", row.name].as_dict() for row in result.classes},
        "share_best": one.share_best,
        "standard_errors_below_best": selection.standard_errors_below(name),
        "not_significantly_different_from_best": name in selection.indistinguishable,
        "against_best": _pair(results.objective, selection.from_best(name)),
        "against_baseline": _pair(results.objective, selection.from_baseline(name)),
    }


def _tuned(one: CandidateResult) -> dict[str, Any] | None:
    if not one.candidate.tuned:
        return None
    values = [
        t.method if t.offsets is None else np.round(t.offsets, 6).tolist() for t in (*one.by_fold, one.final)
    ]
    return {"by_fold": values[:-1], "on_all": values[-1]}


def _pair(objective: Objective, pair: Paired | None) -> dict[str, Any] | None:
    return (
        None
        if pair is None
        else {
            "difference": metric_text.shown_difference(objective, pair).as_dict(),
            "standard_error": pair.standard_error,
            "p": pair.p if math.isfinite(pair.p) else None,
            "p_holm": pair.p_holm if math.isfinite(pair.p_holm) else None,
            "verdict": pair.verdict,
        }
    )


def as_markdown(results: RecommendationResults, provenance: Provenance) -> str:
    """The answer, the table, and how to read them."""
    groups = list(results.baseline.result.class_groups)
    header = [
        "Candidate",
        "Step",
        *map(metric_text.heading, shown(results.objective)),
        *(f"Recall {name}-shot, %" for name in groups),
        metric_text.difference_heading(results.objective),
        "p, Holm",
        "Below the best, standard errors",
        "Significantly different from the best",
        "Best, % of resamples",
    ]
    notes = [*([SYNTHETIC] if provenance.synthetic else []), *provenance.unsafe]
    failed = "\n".join(f"- {markdown_text(f'{name}: {why}')}" for name, why in results.failed.items())
    alignment = ["---", "---", *[NUMBER] * (len(header) - 4), "---", NUMBER]
    blocks = [
        f"# {markdown_text(provenance.name)}: which method to use",
        *(f"**{markdown_text(note)}**" for note in notes),
        f"Objective: {results.objective.title}.",
        *map(markdown_text, answer(results)),
        f"Next:\n\n    {next_command(results, provenance)}",
        "## Candidates in cross-validation",
        markdown_lines(header, alignment, [_row(results, one) for one in results.candidates.values()]),
        *(["## Left out because a training failed", failed] if failed else []),
        "## Selected on the other folds, evaluated on the fold left out",
        markdown_lines(*_nested_table(results)),
        "## How to read this",
        *map(markdown_text, how_to_read(results.objective)),
    ]
    return "\n\n".join(blocks) + "\n"


def _nested_rows(results: RecommendationResults) -> list[tuple[str, NestedSelection]]:
    return [
        ("The recommendation", results.nested),
        (f"The {results.objective.extreme} estimate", results.nested_best),
    ]


def _nested_table(results: RecommendationResults) -> tuple[list[str], list[str], list[list[str]]]:
    """Header, alignment and rows."""
    objective = results.objective
    metrics = [metric_text.heading(metric) for metric in shown(objective)]
    header = ["Selection", *metrics, metric_text.difference_heading(objective), "p", "Folds"]
    rows = [
        [
            what,
            *(metric_text.with_interval(metric, nested.estimate(metric)) for metric in shown(objective)),
            metric_text.difference_with_interval(
                objective, metric_text.shown_difference(objective, nested.gain)
            ),
            markdown_text(formatting.p_value(nested.gain.p)),
            markdown_text(", ".join(f"{name} in {count}" for name, count in nested.counts)),
        ]
        for what, nested in _nested_rows(results)
    ]
    plain = [
        metric_text.with_interval(metric, results.baseline.estimate(metric)) for metric in shown(objective)
    ]
    rows.append(["Plain cross-entropy", *plain, ABSENT, ABSENT, ABSENT])
    return header, ["---", *[NUMBER] * (len(header) - 2), "---"], rows


def _row(results: RecommendationResults, one: CandidateResult) -> list[str]:
    selection, name, objective = results.selection, one.candidate.name, results.objective
    pair = selection.from_baseline(name)
    name_shown = f"**{markdown_text(name)}**" if name == selection.recommended else markdown_text(name)
    tuned = _tuned_in_words(one)
    return [
        name_shown + (f", {markdown_text(tuned)}" if tuned else ""),
        one.candidate.step,
        *(metric_text.with_interval(metric, one.estimate(metric)) for metric in shown(objective)),
        *map(percent_with_interval, one.result.class_group_recall.values()),
        ABSENT
        if pair is None
        else metric_text.difference_with_interval(objective, metric_text.shown_difference(objective, pair)),
        ABSENT if pair is None else markdown_text(formatting.p_value(pair.p_holm)),
        ABSENT if name == selection.best else f"{selection.standard_errors_below(name):.2f}",
        "best" if name == selection.best else "no" if name in selection.indistinguishable else "yes",
        formatting.percent(one.share_best),
    ]


def _tuned_in_words(one: CandidateResult) -> str:
    """``τ 0.75 (by fold: 0.75 in 2, 0.5 in 1)``; empty if nothing was tuned."""
    if not one.candidate.tuned:
        return ""
    if one.candidate.offsets:
        return f"{len(one.result.classes)} offsets"
    counts = Counter(tuned.method for tuned in one.by_fold).most_common()
    by_fold = ", ".join(f"{_tau(method)} in {count}" for method, count in counts)
    return f"τ {_tau(one.final.method)} (by fold: {by_fold})"


def _tau(method: str) -> str:
    return method.partition("tau=")[2].rstrip("]") or "1"


def page(results: RecommendationResults, provenance: Provenance) -> str:
    """The recommendation as one self-contained page in the style of the reports."""
    from markupsafe import Markup

    objective = results.objective
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
        class_groups=list(results.baseline.result.class_groups),
        objective=objective,
        metrics=shown(objective),
        baseline=results.baseline,
        metric_text=metric_text,
        nested=_nested_rows(results),
        facts=_facts(results, provenance),
        failed=results.failed,
        reading=how_to_read(objective),
    )


def _tiles(results: RecommendationResults) -> list[tuple[str, str, str]]:
    """Term, value and a note below it."""
    use, selection, objective = results.recommended, results.selection, results.objective
    metric = objective.name
    score, nested = use.estimate(metric), results.nested.estimate(metric)
    gain = metric_text.shown_difference(objective, results.nested.gain)
    return [
        ("Use", title(use), use.candidate.step),
        (
            formatting.sentence_case(objective.title),
            metric_text.with_unit(metric, score.value),
            metric_text.interval(metric, score),
        ),
        (
            "Nested estimate",
            metric_text.with_unit(metric, nested.value),
            metric_text.interval(metric, nested),
        ),
        (
            "Nested, compared with ce",
            f"{metric_text.difference(objective, gain.value)}{metric_text.unit(objective)}",
            metric_text.difference_interval(objective, gain),
        ),
        (
            "Near the best",
            f"{len(selection.near)} of {len(results.candidates)}",
            f"within one standard error; {len(selection.indistinguishable)} without a significant difference",
        ),
    ]


def _facts(results: RecommendationResults, provenance: Provenance) -> list[tuple[str, str]]:
    counts = sorted(provenance.class_counts.items(), key=lambda item: -item[1])
    evaluated = results.baseline.result
    return [
        (
            "Objective",
            f"{results.objective.title}, the {results.objective.extreme}",
        ),
        ("Images", formatting.images_and_groups(evaluated.n, evaluated.groups)),
        ("Classes", ", ".join(f"{name} {count:,}" for name, count in counts)),
        ("Test set", f"{provenance.test_images:,} images, held out"),
        ("Folds and seeds", f"{provenance.folds} folds, {formatting.count_of(provenance.seeds, 'seed')}"),
        ("Trained", f"a linear head on {provenance.backbone}, frozen"),
        ("Features", provenance.features),
        ("Splits", provenance.splits[:12]),
    ]


def candidates_drawing(results: RecommendationResults) -> Drawing:
    """All candidates with their intervals, the best on top; filled dots do not differ significantly from it."""
    candidates, selection = list(results.candidates.values()), results.selection
    metric = results.objective.name
    scale = 100 if results.objective.in_percent else 1
    labels = ["use  ▸  " * (name == selection.recommended) + name for name in results.candidates]

    def draw(figure: Figure, axes: Any) -> None:
        for place, one in enumerate(candidates):
            name, estimate = one.candidate.name, one.estimate(metric)
            similar = name in selection.indistinguishable
            colour = SERIES[0] if similar else MUTED
            if math.isfinite(estimate.low):
                ends, width = [scale * estimate.low, scale * estimate.high], 1.8 if similar else 1.2
                axes.plot(ends, [place] * 2, color=colour, linewidth=width)
            fill = {} if similar else {"markerfacecolor": "none"}
            axes.plot([scale * estimate.value], [place], "o", color=colour, markersize=6.5, zorder=4, **fill)
            if name == selection.recommended:
                ring = {"markersize": 12.5, "markerfacecolor": "none", "zorder": 5}
                axes.plot([scale * estimate.value], [place], "o", color=INK, **ring)
        baseline = scale * results.baseline.estimate(metric).value
        axes.axvline(baseline, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
        axes.set_yticks(range(len(candidates)), labels)
        axes.set_ylim(len(candidates) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.grid(visible=True, axis="x")
        axes.margins(x=0.05)
        unit = ", %" if results.objective.in_percent else ""
        axes.set_xlabel(
            f"{results.objective.title}{unit} (95 % interval); the dashed line is plain cross-entropy"
        )

    values = ", ".join(
        f"{one.candidate.name} {metric_text.with_unit(metric, one.estimate(metric).value)}"
        for one in candidates
    )
    description = (
        f"{formatting.sentence_case(results.objective.title)}: {values}. Not significantly different from the best: "
        f"{', '.join(selection.indistinguishable)}. Recommended: {selection.recommended}."
    )
    return Drawing("candidates", description, _FIGURE_WIDTH, 52 + _ROW * len(candidates), draw)


def console_text(content: Mapping[str, Any]) -> str:
    """The table of candidates, the answer and the next command, for a terminal.

    Args:
        content: of recommend.json.
    """
    objective = parse_objective(content[OBJECTIVE])
    header = (
        "",
        "Candidate",
        "Step",
        *map(metric_text.heading, _objective_first(objective)),
        metric_text.difference_heading(objective),
        "SE below best",
    )
    rows = [_console_row(content, one) for one in content["candidates"]]
    sentences = [*([SYNTHETIC] if content["synthetic"] else []), *content["answer"]]
    return "\n".join(
        [
            f"Objective: {objective.title}, the {objective.extreme} is the best; the other metrics show the price.",
            f"Cross-validation with 95 % intervals; n = {content['images']:,}. * recommended: the simplest candidate within",
            "one standard error (SE) of the best. = not significantly different from the best. Test set: held out.",
            *align_columns([(*header, "Best, %"), *rows]),
            "",
            *(line for sentence in sentences for line in textwrap.wrap(printable(sentence), _WIDTH)),
            "",
            "Next:",
            f"  {printable(content['next_command'])}",
        ]
    )


def _console_row(content: Mapping[str, Any], one: Mapping[str, Any]) -> tuple[str, ...]:
    recommended = one["name"] == content["recommended"]
    pair, objective = one["against_baseline"], parse_objective(content[OBJECTIVE])
    first, *others = _objective_first(objective)
    return (
        "*" if recommended else "=" if one["not_significantly_different_from_best"] else "",
        one["name"],
        one["step"],
        metric_text.with_interval(first, Estimate.from_dict(one[first])),
        *(metric_text.value(metric, Estimate.from_dict(one[metric]).value) for metric in others),
        metric_text.difference_with_interval(objective, Estimate.from_dict(pair["difference"]))
        if pair
        else "",
        "" if one["against_best"] is None else f"{one['standard_errors_below_best']:.2f}",
        formatting.percent(one["share_best"]),
    )


def _objective_first(objective: Objective) -> list[str]:
    return [objective.name, *(metric for metric in shown(objective) if metric != objective.name)]
