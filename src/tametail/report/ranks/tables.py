"""ranks.csv and ranks.md: one row per method, with its score, interval and rank on each data set."""

from __future__ import annotations

from dataclasses import dataclass

from tametail.evaluation import Estimate
from tametail.report import formatting
from tametail.report.formatting import percent_with_interval
from tametail.report.ranks.benchmark_scores import BenchmarkScores
from tametail.report.ranks.narrative import HOW_TO_READ_RANKS, answer, left_out
from tametail.report.writers.csv_cells import Cells, csv_text, estimate_cells
from tametail.report.writers.markdown_table import NUMBER, markdown_lines, markdown_text


@dataclass(frozen=True)
class ScoreOnSet:
    """A method on one data set: its score, its rank among the methods ranked, and whether its score is the highest."""

    score: Estimate
    rank: float
    best: bool


@dataclass(frozen=True)
class RankedRow:
    """A method with its mean rank and its score on each data set, in their order."""

    method: str
    mean_rank: float
    on: tuple[ScoreOnSet, ...]


def rows(compared: BenchmarkScores) -> list[RankedRow]:
    """The methods by mean rank, the best first."""
    from scipy import stats

    methods = compared.ranks.methods
    of_sets = []
    for one in compared.sets:
        scores = [one.scores[method] for method in methods]
        rank = stats.rankdata([-round(score.value, 12) for score in scores])
        of_sets.append(
            [
                ScoreOnSet(score, float(r), bool(r == rank.min()))
                for score, r in zip(scores, rank, strict=True)
            ]
        )
    return [
        RankedRow(method, compared.ranks.mean_ranks[place], tuple(on[place] for on in of_sets))
        for place, method in enumerate(methods)
    ]


def rank_text(rank: float) -> str:
    """``1``, or ``2.5`` for ties."""
    return f"{rank:g}"


def ranks_csv(compared: BenchmarkScores) -> str:
    """One row per method; proportions have six decimals."""
    lines: list[Cells] = []
    for row in rows(compared):
        cells = [("method", row.method), ("mean_rank", f"{row.mean_rank:.6f}")]
        for one, on in zip(compared.sets, row.on, strict=True):
            cells += [
                (f"rank {one.name}", rank_text(on.rank)),
                *estimate_cells(f"score {one.name}", on.score),
            ]
            cells.append((f"n {one.name}", str(on.score.n)))
        lines.append(cells)
    return csv_text(lines)


def ranks_markdown(compared: BenchmarkScores) -> str:
    """The ranking as Markdown, with the tests."""
    ranks = compared.ranks
    blocks = [
        f"# {len(compared.sets)} data sets: methods ranked",
        markdown_text(" ".join(answer(compared))),
        *(f"**{markdown_text(warning)}**" for warning in compared.warnings),
        *([markdown_text(ranks.undefined)] if ranks.undefined else []),
        f"## {formatting.sentence_case(compared.score_name)} in %, with 95 % interval and rank",
        _scores(compared),
    ]
    if ranks.friedman is not None and ranks.critical_difference is not None:
        found = ranks.friedman
        facts = [
            f"Friedman: chi² = {found.statistic:.3f}, p = {formatting.p_value(found.p)}",
            f"Iman-Davenport: F = {found.iman_davenport:.3f}, p = {formatting.p_value(found.iman_davenport_p)}",
            f"by permutation: p = {formatting.p_value(found.permutation_p)}",
            f"Nemenyi's critical difference at 5 %: {ranks.critical_difference:.3f}",
        ]
        blocks += ["## Tests", "\n".join(f"- {markdown_text(fact.replace('= <', '<'))}" for fact in facts)]
    blocks += [
        "## Wilcoxon's signed-rank test, Holm-corrected p",
        _wilcoxon(compared),
        "## Data sets",
        _sets(compared),
    ]
    waiting = left_out(compared)
    if waiting:
        blocks += [
            "## Left out: missing on some data sets",
            "\n".join(f"- {markdown_text(line)}" for line in waiting),
        ]
    return "\n\n".join([*blocks, "## How to read this", *map(markdown_text, HOW_TO_READ_RANKS)]) + "\n"


def _scores(compared: BenchmarkScores) -> str:
    lines = [
        [
            markdown_text(row.method),
            f"{row.mean_rank:.2f}",
            *(
                f"{f'**{percent_with_interval(on.score)}**' if on.best else percent_with_interval(on.score)}, {rank_text(on.rank)}"
                for on in row.on
            ),
        ]
        for row in rows(compared)
    ]
    header = ["Method", "Mean rank", *(markdown_text(one.name) for one in compared.sets)]
    return markdown_lines(header, ["---", *[NUMBER] * (len(header) - 1)], lines)


def _wilcoxon(compared: BenchmarkScores) -> str:
    ranks = compared.ranks
    lines = [
        [
            markdown_text(method),
            *(
                formatting.ABSENT
                if i == j
                else markdown_text(formatting.p_value(float(ranks.wilcoxon_p[i, j])))
                for j in range(len(ranks.methods))
            ),
        ]
        for i, method in enumerate(ranks.methods)
    ]
    header = ["", *(markdown_text(method) for method in ranks.methods)]
    return markdown_lines(header, ["---", *[NUMBER] * len(ranks.methods)], lines)


def _sets(compared: BenchmarkScores) -> str:
    lines = [
        [
            markdown_text(one.name),
            f"{one.images}",
            f"{one.groups}",
            f"{one.classes}",
            markdown_text(one.protocol),
        ]
        for one in compared.sets
    ]
    return markdown_lines(
        ["Set", "Images", "Groups", "Classes", "Evaluation"], ["---", *[NUMBER] * 3, "---"], lines
    )
