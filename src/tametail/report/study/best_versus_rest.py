"""What the page says of the best loss beside each other one, class by class and over seeds and folds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tametail.evaluation import Estimate, mcnemar, resampled_t
from tametail.evaluation.verdicts import SIGNIFICANCE_LEVEL
from tametail.report import formatting
from tametail.report.study.comparisons import RunComparison
from tametail.report.study.matrices import interval, points
from tametail.report.study.results import StudyResults

_MOST_METHODS = 8  # whose classes are shown; metrics.json has all


@dataclass(frozen=True)
class ClassRow:
    """One class: images that one of the two alone gets right, the difference in recall and what the test says."""

    name: str
    n: str
    only_best: str
    only_other: str
    difference: float
    points: str
    interval: str
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class RunsRow:
    """One loss: how far the best is ahead of it over runs."""

    other: str
    difference: float
    points: str
    interval: str
    p: float
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class BestVersusRest:
    """Both tables, with the question that each answers."""

    classes: tuple[tuple[str, tuple[ClassRow, ...]], ...]
    class_question: str
    runs: tuple[RunsRow, ...]
    run_count: int
    run_question: str
    left_out: int


def best_versus_rest(results: StudyResults) -> BestVersusRest:
    """The tables, losses in the order of their rank and classes from the most frequent in training."""
    shown = list(results.by_class.items())[:_MOST_METHODS]
    rows = tuple(
        (other, tuple(_class_row(tests[index]) for index in results.class_order)) for other, tests in shown
    )
    runs = tuple(_runs_row(other, compared) for other, compared in results.over_runs.items())
    counts = {compared.found.runs for compared in results.over_runs.values()}
    return BestVersusRest(
        rows,
        mcnemar.MCNEMAR_QUESTION,
        runs,
        max(counts, default=0),
        resampled_t.RESAMPLED_T_QUESTION,
        len(results.by_class) - len(shown),
    )


def _class_row(test: mcnemar.ClassTest) -> ClassRow:
    return ClassRow(
        test.name,
        f"{test.n:,}",
        _images(test.only_a),
        _images(test.only_b),
        test.difference.value,
        points(test.difference.value),
        interval(test.difference),
        test.p_holm,
        "absent here" if test.verdict == "absent" else test.verdict,
    )


def _images(count: float) -> str:
    return f"{count:,.0f}" if count == round(count) else f"{count:,.1f}"


def _runs_row(other: str, compared: RunComparison) -> RunsRow:
    found = compared.found
    told = compared.p_holm <= SIGNIFICANCE_LEVEL
    ahead = "better" if found.difference > 0 else "worse"
    undefined = math.isnan(found.p)
    return RunsRow(
        other,
        found.difference,
        points(found.difference),
        interval(Estimate(found.difference, found.low, found.high, found.runs)),
        found.p,
        compared.p_holm,
        formatting.ABSENT if undefined else ahead if told else "no significant difference",
    )
