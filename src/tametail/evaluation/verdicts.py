"""Holm's correction of p values, the verdict of a comparison, and the required sample size."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tametail.core.arrays import FloatArray
from tametail.evaluation.proportions import Estimate

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

    Both are required, as they guard against different errors. The test holds its level if the models are exchangeable.
    But if a model gains in a frequent class what it loses in a rare one of four images, these often show nothing, and
    the test sees the gain alone; the interval accounts for how little four images say. And no model is then called
    better with an interval that contains 0.
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

    It assumes that the observed difference is the true one, and that new images have the same distribution of groups and
    classes. The observed difference is itself uncertain, especially where it comes from rare classes: the result is an
    order of magnitude.

    Args:
        differences: (G,) the contributions d of the groups to the difference.
        difference: with its 95 % interval; its n counts the images that were tested.
        level: of the test, two-sided.

    Returns:
        Additional images, 0 if there are enough; None if the difference is 0, which no sample size makes significant.
    """
    d, value = np.asarray(differences, dtype=np.float64), difference.value
    if value == 0:
        return None
    power, edge = float(stats.norm.ppf(POWER)), float(stats.norm.ppf(1 - SIGNIFICANCE_LEVEL / 2))
    by_test = (float(stats.norm.ppf(1 - level / 2)) + power) ** 2 * float((d**2).sum())
    half = value - difference.low if value > 0 else difference.high - value
    by_interval = (half * (1 + power / edge)) ** 2
    return max(0, math.ceil((max(by_test, by_interval) / value**2 - 1) * difference.n))
