"""recommend.html: the recommendation as one self-contained page in the report's style."""

from __future__ import annotations

from dataclasses import dataclass

from tametail.evaluation.paired import Paired
from tametail.recommend.candidates import PLAIN
from tametail.recommend.figure import candidates_drawing
from tametail.recommend.findings import CandidateResult, Findings
from tametail.recommend.narrative import READING, Circumstances, answer, next_command, title
from tametail.report import formatting
from tametail.report.figures.svg import inlined
from tametail.report.render import render
from tametail.report.study import narrative


@dataclass(frozen=True)
class Row:
    """A line of the table: a candidate with its differences, None beside itself."""

    tried: CandidateResult
    use: bool
    alike: bool
    beside_plain: Paired | None
    beside_best: Paired | None
    errors_below: float


def page(findings: Findings, circumstances: Circumstances) -> str:
    """The page."""
    from markupsafe import Markup

    choice = findings.choice
    rows = [
        Row(
            tried,
            name == choice.use,
            name in choice.alike,
            None if name == PLAIN else choice.against_plain[name].reversed(),
            None if name == choice.best else choice.against_best[name].reversed(),
            choice.standard_errors_below(name),
        )
        for name, tried in findings.tried.items()
    ]
    return render(
        "recommend.html.j2",
        name=circumstances.name,
        warnings=[*([narrative.SYNTHETIC] if circumstances.synthetic else []), *circumstances.unsafe],
        answer=answer(findings),
        tiles=_tiles(findings),
        figure=Markup(inlined(candidates_drawing(findings))),
        command=next_command(findings, circumstances),
        rows=rows,
        class_groups=[group.name for group in findings.tried[PLAIN].result.class_groups],
        difference=_difference,
        best=choice.best,
        nested=[("The recommendation", findings.followed), ("The highest estimate", findings.highest)],
        facts=_facts(findings, circumstances),
        failed=findings.failed,
        reading=READING,
    )


def _tiles(findings: Findings) -> list[tuple[str, str, str]]:
    """Term, value, and what is said beside it."""
    use, nested = findings.tried[findings.choice.use], findings.followed
    score, gain = use.result.balanced_accuracy, nested.gain.difference
    return [
        ("Use", title(use), use.candidate.step),
        ("Balanced accuracy", f"{formatting.percent(score.value)} %", formatting.percent_interval(score)),
        (
            "Nested estimate",
            f"{formatting.percent(nested.result.balanced_accuracy.value)} %",
            formatting.percent_interval(nested.result.balanced_accuracy),
        ),
        (
            "Nested, beside plain ce",
            f"{100 * gain.value:+.1f} points",
            f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
        ),
        (
            "Near the best",
            f"{len(findings.choice.near)} of {len(findings.tried)}",
            f"within one standard error; {len(findings.choice.alike)} without a significant difference",
        ),
    ]


def _difference(pair: Paired) -> tuple[str, str]:
    """Points and their interval."""
    d = pair.difference
    return f"{100 * d.value:+.1f}", f"{100 * d.low:+.1f} to {100 * d.high:+.1f}"


def _facts(findings: Findings, circumstances: Circumstances) -> list[tuple[str, str]]:
    result = findings.tried[PLAIN].result
    counts = sorted(circumstances.class_counts.items(), key=lambda item: -item[1])
    return [
        ("Images", formatting.images_and_groups(result.n, result.groups)),
        ("Classes", ", ".join(f"{name} {count:,}" for name, count in counts)),
        ("Test set", f"{circumstances.test_images:,} images, sealed"),
        (
            "Folds and seeds",
            f"{circumstances.folds} folds, {circumstances.seeds} seed{'s' * (circumstances.seeds > 1)}",
        ),
        ("Trained", f"a linear head on {circumstances.backbone}, frozen"),
        ("Splits", circumstances.splits[:12]),
    ]
