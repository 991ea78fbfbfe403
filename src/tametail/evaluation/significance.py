"""Permutation test, Holm's correction of p values, the verdict of a comparison, and the required sample size.

Shape legend: G groups, K distinct sizes of difference, R resamples.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.core.arrays import FloatArray
from tametail.evaluation.distributions import fair_coin, normal_quantile
from tametail.evaluation.intervals import Estimate

# Sums that are enumerated rather than drawn: all signs of 20 differences, or more if many have the same size.
_LISTED = 2**20
_ENTRIES = 500_000  # signs of one chunk of draws: 4 MB, which fits in a processor's cache
_DRAWN, _DISTINCT = 4096, 512  # differences, and sizes, that are always drawn one by one
_FEW = 32  # drawing a binomial number takes about as long as this many random bits
# Equal differences may differ in their last digits by the order of summation.
_DIGITS = 10

Verdict = Literal["better", "worse", "no significant difference"]

SIGNIFICANCE_LEVEL = 0.05
POWER = 0.8


def holm(p: ArrayLike) -> FloatArray:
    """Adjust p values for multiple testing (Holm 1979); controls the family-wise error rate under any dependence.

    Args:
        p: (K,) in 0..1; nan stands for no test: it stays nan and is not counted.

    Returns:
        (K,) adjusted p values in 0..1.
    """
    values = np.asarray(p, dtype=np.float64)
    found = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    stepped = np.arange(len(order), 0, -1) * values[order]
    found[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return found


def verdict(difference: Estimate, p_holm: float) -> Verdict:
    """Verdict on a from the difference a - b: significant if the adjusted p is at most 5 % and the interval excludes 0.

    Both are required: the test holds its level if the models are exchangeable, but if a model gains in a frequent class
    what it loses in a rare one, the few images of that often show nothing, for which only the interval accounts.
    """
    excludes_zero = difference.low > 0 or difference.high < 0
    if not (p_holm <= SIGNIFICANCE_LEVEL and excludes_zero):
        return "no significant difference"
    return "better" if difference.value > 0 else "worse"


def required_sample_size(
    differences: ArrayLike, difference: Estimate, *, level: float = SIGNIFICANCE_LEVEL
) -> int | None:
    """Estimate how many more test images would make the difference significant with a power of 80 %, by test and interval.

    The normal approximation of power: with k times the images the difference keeps its value and its variance is
    divided by k. For the sign-flip test, with variance ``sum d²``, power of 80 % needs
    ``k = (z(1 - level/2) + z(0.8))² sum d² / (sum d)²``; for the interval likewise, with the distance of the difference
    from the limit nearer to 0 in place of z(1 - level/2) standard deviations. The larger k is used.

    It takes the observed difference for the true one, so that the result is an order of magnitude.

    Args:
        differences: (G,) the contributions d of the groups to the difference.
        difference: with limits that exclude 0 exactly if the 95 % interval does, and whose distance shrinks with more
            images; its n counts the images that were tested.
        level: of the test, two-sided.

    Returns:
        Additional images, 0 if there are enough; None if the difference is 0, which no sample size makes significant.
    """
    d, value = np.asarray(differences, dtype=np.float64), difference.value
    if value == 0:
        return None
    power, edge = normal_quantile(POWER), normal_quantile(1 - SIGNIFICANCE_LEVEL / 2)
    by_test = (normal_quantile(1 - level / 2) + power) ** 2 * float((d**2).sum())
    half = value - difference.low if value > 0 else difference.high - value
    by_interval = (half * (1 + power / edge)) ** 2
    return max(0, math.ceil((max(by_test, by_interval) / value**2 - 1) * difference.n))


def permutation_p(differences: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of the sum of G independent differences with random signs (Fisher 1935).

    With groups of images as units the test is exact if the two models are exchangeable within a group, whatever the
    correlation within groups and however rare a class is.

    If all distinct sums can be enumerated, p is exact; otherwise p = (1 + #) / (1 + R) of R drawn sums (Phipson & Smyth
    2010), which is never 0. Of m differences of one size k ~ Binomial(m, 1/2) are positive, so that the cost depends on
    the distinct sizes, not on G.

    Args:
        differences: (G,). Their order does not matter; zeros are ignored.
        resamples: R.
        seed: of the draws; the same seed gives the same p.

    Returns:
        p in 0..1; 1 without a difference other than 0.

    Raises:
        ValueError: a difference is not finite, or there are no resamples.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all() or resamples < 1:
        raise ValueError("expected finite differences and at least one resample")
    sizes, signed, counts = _patterns(values)
    if sizes.size == 0:
        return 1.0
    # Sums that are equal on paper differ by at most the rounding of each size, half a unit of the last digit, in both.
    observed = abs(float(signed @ sizes)) - 10.0**-_DIGITS * float(counts.sum())
    if np.log2(counts + 1.0).sum() <= np.log2(_LISTED):
        sums, weights = _listed(sizes, counts)
        return min(1.0, float(weights[np.abs(sums) >= observed].sum()))
    beyond = np.count_nonzero(np.abs(_drawn(sizes, counts, resamples, seed)) >= observed)
    return float((1 + beyond) / (1 + resamples))


def _patterns(values: FloatArray) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct sizes (K,) above 0, relative to the largest; the sum of the signs of each; and its count."""
    largest = float(np.abs(values).max(initial=0.0))
    scaled = np.round(values / largest, _DIGITS) if largest > 0 else np.zeros(0)
    kept = scaled[scaled != 0]
    sizes, codes, counts = np.unique(np.abs(kept), return_inverse=True, return_counts=True)
    signed = np.zeros(len(sizes), dtype=np.int64)
    np.add.at(signed, codes, np.sign(kept).astype(np.int64))
    return sizes, signed, counts.astype(np.int64)


def _listed(sizes: FloatArray, counts: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """All signed sums with their probabilities; a size of m differences has m + 1 sums."""
    sums, weights = np.zeros(1), np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        positive = np.arange(count + 1)
        sums = np.add.outer(sums, size * (2.0 * positive - count)).ravel()
        weights = np.multiply.outer(weights, fair_coin(positive, count)).ravel()
    return sums, weights


def _drawn(sizes: FloatArray, counts: NDArray[np.int64], resamples: int, seed: int) -> FloatArray:
    """Draw (R,) signed sums: a binomial number for each frequent size, a random bit for each other difference.

    If there are more than `_DISTINCT` sizes and `_DRAWN` larger differences, the smallest sizes are drawn together as one
    normal number of their variance, which by the first term of Edgeworth's series moves p by less than 0.00001.
    """
    rng = np.random.default_rng(seed)
    sizes, counts = sizes[::-1], counts[::-1]  # from the largest
    drawn = max(int(np.searchsorted(counts.cumsum(), _DRAWN)) + 1, _DISTINCT)
    small = float((counts[drawn:] * sizes[drawn:] ** 2).sum()) ** 0.5
    sums = small * rng.standard_normal(resamples) if small > 0 else np.zeros(resamples)
    sizes, counts = sizes[:drawn], counts[:drawn]
    many = counts > _FEW
    for size, count in zip(sizes[many], counts[many], strict=True):
        sums += size * (2.0 * rng.binomial(count, 0.5, size=resamples) - count)
    single = np.repeat(sizes[~many], counts[~many])
    rows = max(1, _ENTRIES // max(single.size, 1))
    for start in range(0, resamples if single.size else 0, rows):
        chunk = min(rows, resamples - start)
        bits = np.frombuffer(rng.bytes(chunk * ((single.size + 7) // 8)), dtype=np.uint8)
        signs = np.unpackbits(bits.reshape(chunk, -1), axis=1, count=single.size)
        sums[start : start + chunk] += 2.0 * (signs @ single) - single.sum()
    return sums
