"""From p values to words: Holm's correction, the verdict, and about how many more test images would give one."""

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
    """p values corrected for being several (Holm 1979): reject those at most the level, of any that are true, with a
    chance of an error of at most the level; whatever the dependence between them.

    Args:
        p: (K,) in 0..1; nan is no test, stays nan and does not count.

    Returns:
        (K,) in 0..1, each at least the p it comes from.
    """
    values = np.asarray(p, dtype=np.float64)
    found = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    stepped = np.arange(len(order), 0, -1) * values[order]
    found[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return found


def verdict(difference: Estimate, p_holm: float) -> Verdict:
    """What a difference a - b says of a: told apart where the corrected p is at most 5 % and the interval is beside 0.

    Both, as they guard against different errors. The test holds its level where the models are exchangeable. But where a
    model gains in a common class what it loses in a rare one of four images, the four often show nothing, and the test
    sees the gain alone; the interval knows how little four images say. And no one then has to read of a model that is
    better by an interval that holds 0.
    """
    beside = difference.low > 0 or difference.high < 0
    if not (p_holm <= SIGNIFICANCE_LEVEL and beside):
        return "no significant difference"
    return "better" if difference.value > 0 else "worse"


def required_sample_size(
    differences: ArrayLike, difference: Estimate, *, level: float = SIGNIFICANCE_LEVEL
) -> int | None:
    """About how many more test images would let models be told apart four times in five, by test and interval.

    The normal approximation of power: with k times the images the difference keeps its value and its variance becomes
    1 / k of what it is. For the sign-flip test, with variance ``sum d²``, power of 80 % needs
    ``k = (z(1 - level/2) + z(0.8))² sum d² / (sum d)²``; for the interval likewise, with the distance from the difference
    to its limit nearer 0 in place of z(1 - level/2) standard deviations. The larger k counts.

    It assumes that the true difference is the one observed, that the new images come in groups and classes as these
    do (rare classes stay as rare), and that the models stay as alike on them. The observed difference is itself
    uncertain, the more so where rare classes carry it: an order of magnitude, not a promise.

    Args:
        differences: (G,) the contributions d of the groups to the difference.
        difference: with its 95 % interval; its n counts the images that were tested.
        level: of the test, two-sided.

    Returns:
        Images beyond those tested, 0 if there are enough; None where the difference is 0, which no number would tell.
    """
    d, value = np.asarray(differences, dtype=np.float64), difference.value
    if value == 0:
        return None
    power, edge = float(stats.norm.ppf(POWER)), float(stats.norm.ppf(1 - SIGNIFICANCE_LEVEL / 2))
    by_test = (float(stats.norm.ppf(1 - level / 2)) + power) ** 2 * float((d**2).sum())
    half = value - difference.low if value > 0 else difference.high - value
    by_interval = (half * (1 + power / edge)) ** 2
    return max(0, math.ceil((max(by_test, by_interval) / value**2 - 1) * difference.n))
