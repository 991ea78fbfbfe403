"""The group bootstrap for statistics without a closed form: seeded, vectorised, in bounded memory.

Shape legend: G groups, R resamples, T entries of a group's counts, U resampled units, K statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tametail.core.arrays import FloatArray, IntArray

_ENTRIES = 4_000_000  # entries of one chunk of resampled weights: 32 MB
_FEW_PATTERNS = 64  # up to this number of distinct groups, a stratum is drawn from a multinomial distribution
_MOST_UNITS = 500  # of a stratum; more groups than this are combined into bundles
_EXACT = 2**24  # integers below this are exact in float32


def group_bootstrap(
    tables: NDArray[np.integer] | FloatArray | sparse.csr_array,
    strata: IntArray,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """Percentile intervals of statistics of summed counts, resampling whole groups with replacement.

    Groups are drawn within strata of fixed size. With the rarest class of a group as its stratum, rare classes keep
    their size in every resample; plain resampling would often lose a class of a few groups, and so change the meaning
    of a mean over classes. A stratum of more than 500 distinct groups is combined at random into about 500 bundles of
    equal size, which are drawn instead (the random groups of Wolter 2007): its variance is the same on average, with a
    relative error of sqrt(2 / 500), which is 3 % of the width.

    Args:
        tables: (G, ...) the counts of each group, e.g. its confusion matrix; (G, T) if sparse.
        strata: (G,) the stratum of each group.
        statistic: maps a batch of summed counts (R, ...) to (R,) or (R, K) values.
        resamples: R.
        seed: the same seed gives the same interval, whatever the order of the groups.
        confidence: the nominal coverage.

    Returns:
        Low and high limits, () or (K,), over the resamples where a statistic is defined; nan where it never is.
    """
    rng = np.random.default_rng(seed)
    groups, *shape = tables.shape
    flat = tables if sparse.issparse(tables) else sparse.csr_array(tables.reshape(groups, -1))
    parts = [_units(flat[strata == stratum], rng) for stratum in np.unique(strata)]
    fixed = np.sum([part.fixed for part in parts], axis=0)
    rows = np.concatenate([part.rows for part in parts])
    most = sum(part.counts.sum() * np.abs(part.rows).max(axis=0) for part in parts).max(initial=0)
    exact = np.issubdtype(tables.dtype, np.integer) and most < _EXACT
    rows = rows.astype(np.float32 if exact else np.float64)
    values = []
    chunk = max(1, _ENTRIES // len(rows))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        weights = np.concatenate([part.draw(size, rng) for part in parts], axis=1).astype(rows.dtype)
        sums = (weights @ rows).astype(np.float64) + fixed
        values.append(statistic(sums.reshape(size, *shape)))
    low, high = percentile_limits(np.concatenate(values), confidence)
    return low, high


def resampled_groups(strata: IntArray, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Draw groups with replacement within strata, for statistics that are no function of summed counts.

    Args:
        strata: (G,) the stratum of each group.

    Yields:
        (G,) how often each group is drawn.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for _ in range(resamples):
        drawn = [own[rng.integers(0, len(own), len(own))] for own in members]
        yield np.bincount(np.concatenate(drawn), minlength=len(strata)).astype(np.float64)


def percentile_limits(drawn: FloatArray, confidence: float = 0.95) -> FloatArray:
    """(2, ...) percentile limits over the first axis, of the finite values; nan where there are none."""
    if drawn.ndim == 1:
        defined = drawn[np.isfinite(drawn)]
        at = [0.5 - confidence / 2, 0.5 + confidence / 2]
        return np.quantile(defined, at) if defined.size else np.full(2, np.nan)
    return np.stack([percentile_limits(column, confidence) for column in drawn.T], axis=1)


@dataclass(frozen=True)
class _Units:
    """The units that are resampled within one stratum.

    Attributes:
        rows: (U, T) counts of each unit.
        counts: (U,) number of groups with these counts.
        fixed: (T,) counts included in every resample: of the few groups that fill no bundle.
    """

    rows: NDArray[np.generic]
    counts: IntArray
    fixed: NDArray[np.generic]

    def draw(self, size: int, rng: np.random.Generator) -> IntArray:
        """Draw (size, U) multiplicities of the units; each row adds up to the sum of the counts."""
        units, total = len(self.counts), int(self.counts.sum())
        if total > units:
            return np.asarray(rng.multinomial(total, self.counts / total, size=size), dtype=np.int64)
        drawn = rng.integers(0, units, (size, total), dtype=np.uint32) + np.arange(size)[:, None] * units
        return np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)


def _units(rows: sparse.csr_array, rng: np.random.Generator) -> _Units:
    groups, width = rows.shape
    factors = np.random.default_rng(0).normal(size=width)
    # A hash of each row, equal for equal rows, and different for others but for one pair in 10^14.
    marks = rows @ factors
    order = np.argsort(marks, kind="stable")
    rows, marks = rows[order], marks[order]
    starts = np.flatnonzero(np.append(True, marks[1:] != marks[:-1]))
    nothing = np.zeros(width, dtype=rows.dtype)
    if len(starts) <= _FEW_PATTERNS:
        return _Units(rows[starts].toarray(), np.diff(np.append(starts, groups)), nothing)
    if groups <= _MOST_UNITS:
        return _Units(rows.toarray(), np.ones(groups, dtype=np.int64), nothing)
    each = -(-groups // _MOST_UNITS)
    bundles = groups // each
    rows = rows[rng.permutation(groups)]
    member = np.arange(bundles * each)
    bundle = sparse.csr_array((np.ones(len(member), rows.dtype), (member // each, member)), (bundles, groups))
    fixed = np.asarray(rows[bundles * each :].sum(axis=0))
    return _Units((bundle @ rows).toarray(), np.ones(bundles, dtype=np.int64), fixed)
