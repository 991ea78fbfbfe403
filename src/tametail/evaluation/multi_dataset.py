"""Compare methods over several data sets: mean ranks, Friedman, Nemenyi's critical difference, Wilcoxon with Holm.

After Demsar (2006). Shape legend: N data sets, M methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.evaluation.significance import SIGNIFICANCE_LEVEL, holm, permutation_p

RANKS_QUESTION = (
    "Would the methods rank differently on other data sets? Data sets are the units, weighted equally "
    "whatever their size, and regarded as a random sample of data sets. With few data sets only large and consistent "
    "differences are significant."
)


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of equal mean ranks.

    Attributes:
        statistic: Friedman's chi-square, corrected for ties.
        p: its p by the chi-square distribution with M - 1 degrees of freedom; approximate with few data sets.
        iman_davenport: F = (N - 1) chi² / (N (M - 1) - chi²) (Iman & Davenport 1980); infinite if all data sets agree.
        iman_davenport_p: by the F distribution with M - 1 and (M - 1)(N - 1) degrees of freedom.
        permutation_p: by permutation of the ranks within each data set, valid with few data sets too; the recommended p.
    """

    statistic: float
    p: float
    iman_davenport: float
    iman_davenport_p: float
    permutation_p: float


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of methods over data sets, and tests of them.

    Attributes:
        methods: M names, sorted by mean rank, the best first.
        sets: N names.
        mean_ranks: (M,) in the order of ``methods``; 1 is best; ties get the mean of their ranks.
        friedman: None where undefined.
        critical_difference: of mean ranks at the 5 % level (Nemenyi); None where undefined.
        cliques: for a critical-difference plot, the longest runs of methods (indices into ``methods``) whose mean
            ranks are within the critical difference; at least two methods each.
        wilcoxon_p: (M, M) signed-rank test of each pair of methods, adjusted by Holm over all pairs; 1 on the
            diagonal, nan throughout if undefined.
        wilcoxon_cliques: the longest runs of methods without a significant difference by Wilcoxon with Holm.
        undefined: why a value is None or nan, or cannot be significant; empty otherwise.
    """

    methods: tuple[str, ...]
    sets: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    friedman: Friedman | None
    critical_difference: float | None
    cliques: tuple[tuple[int, ...], ...]
    wilcoxon_p: FloatArray
    wilcoxon_cliques: tuple[tuple[int, ...], ...]
    undefined: str


def rank_sets(scores: pd.DataFrame, *, resamples: int = 10_000, seed: int = 0) -> Ranks:
    """Rank the methods on each data set, highest score first, and test the mean ranks.

    Args:
        scores: one row per data set, one column per method; higher is better.
        resamples, seed: of the permutations.

    Raises:
        ValueError: no data set or method, a duplicate name, or a missing score.
    """
    from scipy import stats

    values = _checked(scores)
    ranks = stats.rankdata(-values, axis=1)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    values, ranks = values[:, order], ranks[:, order]
    sets, methods = values.shape
    mean = ranks.mean(axis=0)
    tested = sets >= 2
    critical = nemenyi_critical_difference(methods, sets) if tested and methods >= 3 else None
    p = _wilcoxon(values, resamples, seed) if tested and methods >= 2 else np.full((methods, methods), np.nan)
    apart_by_rank = np.abs(mean[:, None] - mean) > (np.inf if critical is None else critical)
    names = [str(scores.columns[column]) for column in order]
    return Ranks(
        methods=tuple(names),
        sets=tuple(str(name) for name in scores.index),
        mean_ranks=tuple(float(rank) for rank in mean),
        friedman=friedman(ranks, resamples, seed) if critical is not None else None,
        critical_difference=critical,
        cliques=() if critical is None else cliques(apart_by_rank),
        wilcoxon_p=p,
        wilcoxon_cliques=() if np.isnan(p).any() else cliques(p <= SIGNIFICANCE_LEVEL),
        undefined=_undefined(sets, methods),
    )


def friedman(ranks: FloatArray, resamples: int = 10_000, seed: int = 0) -> Friedman:
    """Friedman's test of ranks (N, M), N >= 2 and M >= 3; p is 1 if all methods tie on every data set."""
    from scipy import stats

    sets, methods = ranks.shape
    expected = (methods + 1) / 2
    # The form that corrects for ties: the variance of the rank sums over that within data sets.
    within = float(((ranks - expected) ** 2).sum())
    if within == 0:
        return Friedman(0.0, 1.0, 0.0, 1.0, 1.0)

    def between(of_sets: FloatArray) -> FloatArray:
        return np.asarray(((of_sets.mean(axis=-2) - expected) ** 2).sum(axis=-1))

    scale = sets**2 * (methods - 1) / within
    statistic = float(scale * between(ranks))
    rest = sets * (methods - 1) - statistic
    f = (sets - 1) * statistic / rest if rest > 1e-9 * statistic else np.inf
    shuffled = np.random.default_rng(seed).permuted(
        np.broadcast_to(ranks, (resamples, sets, methods)).copy(), axis=-1
    )
    beyond = np.count_nonzero(scale * between(shuffled) >= statistic - 1e-9)
    return Friedman(
        statistic=statistic,
        p=float(stats.chi2.sf(statistic, methods - 1)),
        iman_davenport=float(f),
        iman_davenport_p=float(stats.f.sf(f, methods - 1, (methods - 1) * (sets - 1))),
        permutation_p=(1 + beyond) / (1 + resamples),
    )


def nemenyi_critical_difference(methods: int, sets: int) -> float:
    """Mean ranks further apart than this differ at the 5 % level: ``q sqrt(M (M + 1) / (6 N))`` (Demsar 2006).

    q is the studentized range over the square root of 2, with M methods and infinite degrees of freedom.
    """
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - SIGNIFICANCE_LEVEL, methods, np.inf)) / np.sqrt(2.0)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * sets)))


def cliques(apart: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    """Longest runs of two or more neighbouring methods that are not pairwise ``apart`` (M, M)."""
    count, found, reached = len(apart), [], 0
    for start in range(count):
        end = start + 1
        while end < count and not apart[start : end + 1, start : end + 1].any():
            end += 1
        if end > reached and end - start > 1:
            found.append(tuple(range(start, end)))
        reached = max(reached, end)
    return tuple(found)


def _checked(scores: pd.DataFrame) -> FloatArray:
    if scores.empty:
        raise ValueError("expected at least one data set and one method, got none")
    for kind, names in (("data set", scores.index), ("method", scores.columns)):
        if not names.is_unique:
            raise ValueError(f"expected each {kind} once, {names[names.duplicated()][0]!r} comes twice")
    values = scores.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = [f"{scores.columns[c]} on {scores.index[r]}" for r, c in np.argwhere(~np.isfinite(values))]
    if missing:
        raise ValueError(f"expected a score of every method on every data set, missing: {', '.join(missing)}")
    return values


def _wilcoxon(values: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Adjusted p (M, M) of the signed-rank test by sign flips of the ranks, exact with ties too."""
    from scipy import stats

    methods = values.shape[1]
    pairs = list(combinations(range(methods), 2))
    p = []
    for i, j in pairs:
        # Equal differences of decimal numbers may differ in their last digits.
        difference = np.round(values[:, i] - values[:, j], 12)
        kept = difference[difference != 0]  # as Wilcoxon does
        signed = np.sign(kept) * stats.rankdata(np.abs(kept))
        p.append(permutation_p(signed, resamples=resamples, seed=seed))
    found = np.eye(methods)
    for (i, j), corrected in zip(pairs, holm(p), strict=True):
        found[i, j] = found[j, i] = corrected
    return found


def _undefined(sets: int, methods: int) -> str:
    if sets < 2:
        return f"Tests of ranks need at least two data sets; here there is {sets}."
    if methods < 2:
        return "There is only one method."
    said = []
    if methods < 3:
        said.append(
            "Friedman's test and Nemenyi's critical difference need at least three methods; here there are two."
        )
    # The smallest p of a signed-rank test over N sets is 2 / 2^N.
    least = 2.0 ** (1 - sets) * methods * (methods - 1) / 2
    if least > SIGNIFICANCE_LEVEL:
        said.append(
            f"Wilcoxon with Holm cannot find a significant difference between {methods} methods on {sets} data sets, whatever the scores."
        )
    return " ".join(said)
