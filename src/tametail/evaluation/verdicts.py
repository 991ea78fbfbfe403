"""From p values to words: Holm's correction, the verdict, and about how many more test images would give one."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]
Verdict = Literal["better", "worse", "not told apart"]

LEVEL = 0.05
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


def verdict(difference: float, p_holm: float) -> Verdict:
    """What a difference a - b says of a, at the 5 % level of a corrected p."""
    if not p_holm <= LEVEL or difference == 0:
        return "not told apart"
    return "better" if difference > 0 else "worse"


def more_images(differences: ArrayLike, images: int, *, level: float = LEVEL) -> int | None:
    """About how many more test images would let a sign-flip test tell two models apart four times in five.

    The normal approximation of the test's power: with k times the images the sum of the differences keeps its value
    and its variance becomes ``sum d² / k``; power of 80 % needs ``k = (z(1 - level/2) + z(0.8))² sum d² / (sum d)²``.

    It assumes that the true difference is the one observed, that the new images come in groups and classes as these
    do (rare classes stay as rare), and that the models stay as alike on them. The observed difference is itself
    uncertain, the more so where rare classes carry it: an order of magnitude, not a promise.

    Args:
        differences: (G,) the contributions d of the groups to the difference.
        images: that were tested.
        level: of the test, two-sided.

    Returns:
        Images beyond those tested, 0 if there are enough; None where the difference is 0, which no number would tell.
    """
    d = np.asarray(differences, dtype=np.float64)
    total, squares = float(d.sum()), float((d**2).sum())
    if abs(total) <= 1e-12 * max(float(np.abs(d).sum()), 1e-300):
        return None
    quantiles = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(POWER)
    times = float(quantiles**2) * squares / total**2
    return max(0, math.ceil((times - 1) * images))
