"""What a ranking over data sets says, in sentences that claim no more than the tests carry."""

from __future__ import annotations

from tametail.evaluation.multi_dataset import RANKS_QUESTION, Ranks
from tametail.evaluation.verdicts import SIGNIFICANCE_LEVEL
from tametail.report import formatting
from tametail.report.ranks.benchmark_scores import BenchmarkScores

READING = (
    RANKS_QUESTION,
    "On each set the methods are ranked by their score, 1 is best, equal scores share the mean of their ranks. Friedman’s "
    "test asks whether any method ranks differently; its p by permutation of the ranks within each set holds with few sets "
    "too and is the one to go by, that of Iman and Davenport is what most papers print.",
    "Two methods whose mean ranks are further apart than Nemenyi’s critical difference differ significantly at 5 %. Wilcoxon’s "
    "signed-rank test, corrected by Holm over all pairs, compares the scores themselves and does not depend on which other "
    "methods are in the table.",
    "The intervals of the scores speak of the images of one set; the ranks do not use them.",
)


def answer(compared: BenchmarkScores) -> list[str]:
    """Which method ranks best and whether that can be told, in two or three sentences."""
    ranks = compared.ranks
    best, *_ = ranks.methods
    tied = [m for m, rank in zip(ranks.methods, ranks.mean_ranks, strict=True) if rank == ranks.mean_ranks[0]]
    first = (
        f"Over {len(ranks.sets)} data sets, {formatting.join_names(tied)} {'has' if len(tied) == 1 else 'share'} the best mean "
        f"rank, {ranks.mean_ranks[0]:.2f}, of {len(ranks.methods)} methods."
    )
    return [first, *_tests(ranks, best)]


def _tests(ranks: Ranks, best: str) -> list[str]:
    found = ranks.friedman
    if found is None:
        p = float(ranks.wilcoxon_p[0, 1])
        apart = "tells them apart" if p <= SIGNIFICANCE_LEVEL else "does not tell them apart"
        return [f"Wilcoxon’s signed-rank test {apart} (p = {formatting.p_value(p)}).".replace("= <", "<")]
    tests = (
        f"Friedman’s test: p {_equals(found.permutation_p)} by permutation, {_equals(found.iman_davenport_p)} by Iman and "
        "Davenport"
    )
    if found.permutation_p > SIGNIFICANCE_LEVEL:
        return [f"{tests}: no difference between the methods is shown."]
    return [f"{tests}: the methods do not all rank alike.", _beside_best(ranks, best)]


def _beside_best(ranks: Ranks, best: str) -> str:
    assert ranks.critical_difference is not None
    worse = [
        name
        for name, rank in zip(ranks.methods, ranks.mean_ranks, strict=True)
        if rank - ranks.mean_ranks[0] > ranks.critical_difference
    ]
    by = f"By Nemenyi’s critical difference ({ranks.critical_difference:.2f})"
    if not worse:
        return f"{by} {best} is not significantly different from any other."
    rest = len(ranks.methods) - 1 - len(worse)
    tail = f", and is not significantly different from the other{'s' if rest > 1 else ''}" if rest else ""
    return f"{by} {best} ranks better than {formatting.join_names(worse)}{tail}."


def _equals(p: float) -> str:
    text = formatting.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def left_out(compared: BenchmarkScores) -> list[str]:
    """A line for each method that not all sets have."""
    unfinished = {one.name: one.unfinished for one in compared.sets}
    said = []
    for method, where in compared.left_out:
        begun = [name for name in where if method in unfinished[name]]
        absent = [name for name in where if name not in begun]
        parts = [f"not on {formatting.join_names(absent)}"] if absent else []
        parts += [f"not finished on {formatting.join_names(begun)}"] if begun else []
        said.append(f"{method}: {', '.join(parts)}")
    return said
