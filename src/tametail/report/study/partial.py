"""partial.md and partial.csv: preliminary scores of unfinished methods, on request and never part of the ranking.

The finished runs of such a method cover only some folds, so its score is compared with those of the finished methods on
the same runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tametail.evaluation import Estimate, evaluate, evaluate_labels
from tametail.predictions.by_group import PredictBy
from tametail.report.formatting import percent_with_interval
from tametail.report.study.runs import MethodRuns, disagreeing, find_runs
from tametail.report.writers.csv_cells import Cells, csv_text, estimate_cells
from tametail.report.writers.markdown_table import NUMBER, markdown_lines, markdown_text
from tametail.storage.evaluation_file import is_evaluation
from tametail.storage.study_file import read_study_file

PARTIAL_MD, PARTIAL_CSV = "partial.md", "partial.csv"
WARNING = (
    "These scores are preliminary: they are means over the finished runs only, and not results of the study."
)
SeedFold = tuple[int, int]


@dataclass(frozen=True)
class Partial:
    """A method with missing runs.

    Attributes:
        method: its name.
        used: (seed, fold) of the finished runs included in its score; empty if none is finished.
        unused: other finished runs, whose repeats are not finished.
        missing: unfinished runs.
        score: the score that ranks methods, on the images of the included folds; None if none is finished.
        others: scores of the finished methods on the same runs.
    """

    method: str
    used: tuple[SeedFold, ...]
    unused: tuple[SeedFold, ...]
    missing: tuple[SeedFold, ...]
    score: Estimate | None
    others: tuple[tuple[str, Estimate], ...]


def partial_methods(directory: Path, predict_by: PredictBy = "image") -> list[Partial]:
    """The unfinished methods of a study, in its order, with scores of images or of groups.

    Raises:
        DataError: the directory holds no study, or one of its files is damaged.
    """
    found = find_runs(directory, read_study_file(directory))
    runs = [replace(of_method, predict_by=predict_by) for of_method in found]
    complete = [of_method for of_method in runs if of_method.complete]
    return [_partial(of_method, complete) for of_method in runs if not of_method.complete]


def unfinished(directory: Path) -> list[str]:
    """A line for each unfinished method with its missing runs; empty for an evaluation.

    Raises:
        DataError: the directory holds no study, or one of its files is damaged.
    """
    if is_evaluation(directory):
        return []
    return [
        f"{of_method.method} is not ranked, as runs are missing: {runs_in_words(of_method.missing)}"
        for of_method in find_runs(directory, read_study_file(directory))
        if not of_method.complete
    ]


def _partial(of_method: MethodRuns, complete: Sequence[MethodRuns]) -> Partial:
    used = largest_block(tuple(of_method.finished), of_method.wanted)
    scored = [(other.method, _score(other.only(used))) for other in complete] if used else []
    return Partial(
        method=of_method.method,
        used=used,
        unused=tuple(run for run in of_method.finished if run not in used),
        missing=of_method.missing,
        score=_score(of_method.only(used)) if used else None,
        others=tuple(scored),
    )


def largest_block(finished: Sequence[SeedFold], wanted: Sequence[SeedFold]) -> tuple[SeedFold, ...]:
    """The runs of all repeats that are finished, or, without any, of the repeat with most finished folds.

    Every repeat has its own folds, so that some of them hold other images than those of the same number in another repeat.

    Args:
        finished, wanted: (repeat, fold) of the finished runs, and of all.
    """
    by_repeat = {repeat: [run for run in finished if run[0] == repeat] for repeat, _ in finished}
    whole = [
        run
        for repeat, runs in by_repeat.items()
        if len(runs) == sum(other == repeat for other, _ in wanted)
        for run in runs
    ]
    best: list[SeedFold] = max(by_repeat.values(), key=lambda runs: len(runs), default=[])
    return tuple(sorted(whole or best))


def _score(of_method: MethodRuns) -> Estimate:
    try:
        if of_method.multi_label:
            return evaluate_labels(of_method.evaluated_labels).score
        return evaluate(of_method.replicates).score
    except ValueError as error:
        raise disagreeing(of_method.method, error) from error


def partial_markdown(name: str, score_name: str, methods: Sequence[Partial]) -> str:
    """Preliminary scores and missing runs of each unfinished method, as Markdown."""
    blocks = [f"# {markdown_text(name)}: unfinished methods", f"**{WARNING}**"]
    for one in methods:
        all_runs = len(one.used) + len(one.unused) + len(one.missing)
        blocks += [
            f"## {markdown_text(one.method)}: partial, {all_runs - len(one.missing)} of {all_runs} runs",
            f"Missing: {runs_in_words(one.missing)}.",
        ]
        if one.score is None:
            blocks.append("No run is finished, so there is no score.")
            continue
        blocks.append(
            f"Mean over: {runs_in_words(one.used)}."
            + (
                f" Excluded, as their repeats are not finished: {runs_in_words(one.unused)}."
                if one.unused
                else ""
            )
        )
        rows = [
            [f"{markdown_text(one.method)} (partial)", percent_with_interval(one.score), str(one.score.n)]
        ]
        rows += [
            [f"{markdown_text(other)}, same runs", percent_with_interval(score), str(score.n)]
            for other, score in one.others
        ]
        blocks.append(
            markdown_lines(["Method", f"{score_name.capitalize()}, %", "n"], ["---", NUMBER, NUMBER], rows)
        )
    return "\n\n".join(blocks) + "\n"


def partial_csv(score_name: str, methods: Sequence[Partial]) -> str:
    """One row per unfinished method, and one per finished method on the same runs."""
    column = score_name.replace(" ", "_")
    rows: list[Cells] = []
    for one in methods:
        shared = [("missing", runs_in_words(one.missing)), ("runs", runs_in_words(one.used))]
        for method, status, score in [
            (one.method, "partial", one.score),
            *((other, f"same runs as {one.method}", score) for other, score in one.others),
        ]:
            n = str(score.n) if score else ""
            rows.append(
                [("method", method), ("status", status), *shared, ("n", n), *estimate_cells(column, score)]
            )
    return csv_text(rows)


def runs_in_words(runs: Sequence[SeedFold]) -> str:
    """``seed 0 folds 1, 2; seed 1 fold 0``."""
    said = []
    for seed in dict.fromkeys(seed for seed, _ in runs):
        folds = [str(fold) for s, fold in runs if s == seed]
        said.append(f"seed {seed} {'fold' if len(folds) == 1 else 'folds'} {', '.join(folds)}")
    return "; ".join(said) or "none"
