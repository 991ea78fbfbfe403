"""A ranking over data sets in sentences that claim no more than the tests show."""

from __future__ import annotations

from tametail.evaluation.multi_dataset import RANKS_QUESTION, Ranks
from tametail.evaluation.significance import SIGNIFICANCE_LEVEL
from tametail.report.formatting import join_names, p_equals
from tametail.report.ranks.benchmark_scores import BenchmarkScores

HOW_TO_READ_RANKS = (
    RANKS_QUESTION,
    "On each data set the methods are ranked by their score: 1 is best, and ties share their mean rank. Friedman’s test asks "
    "whether any method ranks differently. Its p value by permutation of the ranks within each data set is also valid for few "
    "data sets and is the one to use; most papers report that of Iman and Davenport.",
    "Two methods differ significantly (5 %) if their mean ranks differ by more than Nemenyi’s critical difference. Wilcoxon’s "
    "signed-rank test, Holm-corrected over all pairs, compares the scores themselves and does not depend on which other methods "
    "are ranked.",
    "The intervals of the scores describe the sampling of images within one data set; the ranks do not use them.",
)


def answer(compared: BenchmarkScores) -> list[str]:
    """The method with the best mean rank and the result of the tests, in two or three sentences."""
    ranks = compared.ranks
    best, *_ = ranks.methods
    tied = [m for m, rank in zip(ranks.methods, ranks.mean_ranks, strict=True) if rank == ranks.mean_ranks[0]]
    first = (
        f"Over {len(ranks.sets)} data sets, {join_names(tied)} {'has' if len(tied) == 1 else 'share'} the best mean rank, "
        f"{ranks.mean_ranks[0]:.2f}, of {len(ranks.methods)} methods."
    )
    return [first, *_tests(ranks, best)]


def _tests(ranks: Ranks, best: str) -> list[str]:
    found = ranks.friedman
    if found is None:
        p = float(ranks.wilcoxon_p[0, 1])
        finds = "a" if p <= SIGNIFICANCE_LEVEL else "no"
        return [f"Wilcoxon’s signed-rank test finds {finds} significant difference (p {p_equals(p)})."]
    tests = (
        f"Friedman’s test: p {p_equals(found.permutation_p)} by permutation, {p_equals(found.iman_davenport_p)} by Iman and "
        "Davenport"
    )
    if found.permutation_p > SIGNIFICANCE_LEVEL:
        return [f"{tests}: no significant difference between the methods."]
    return [f"{tests}: the methods differ significantly.", _compare_with_best(ranks, best)]


def _compare_with_best(ranks: Ranks, best: str) -> str:
    assert ranks.critical_difference is not None
    worse = [
        name
        for name, rank in zip(ranks.methods, ranks.mean_ranks, strict=True)
        if rank - ranks.mean_ranks[0] > ranks.critical_difference
    ]
    by = f"By Nemenyi’s critical difference ({ranks.critical_difference:.2f}),"
    if not worse:
        return f"{by} {best} is not significantly different from any other."
    rest = len(ranks.methods) - 1 - len(worse)
    tail = f", and is not significantly different from the other{'s' if rest > 1 else ''}" if rest else ""
    return f"{by} {best} ranks significantly better than {join_names(worse)}{tail}."


def left_out(compared: BenchmarkScores) -> list[str]:
    """A line for each method that some data sets lack."""
    unfinished = {one.name: one.unfinished for one in compared.sets}
    said = []
    for method, where in compared.left_out:
        begun = [name for name in where if method in unfinished[name]]
        absent = [name for name in where if name not in begun]
        parts = [f"not on {join_names(absent)}"] if absent else []
        parts += [f"not finished on {join_names(begun)}"] if begun else []
        said.append(f"{method}: {', '.join(parts)}")
    return said
