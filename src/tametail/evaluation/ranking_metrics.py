"""AUROC and average precision of classes or labels, with intervals for clustered data and means over replicates.

They are nan without a positive or without a negative image.
Shape legend: S replicates, N images, G groups, K classes or labels, P positives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation import intervals
from tametail.evaluation.distributions import t_quantile
from tametail.evaluation.intervals import Proportions, joined, proportions


@dataclass(frozen=True, eq=False)
class RankedClass:
    """The scores of one class or label.

    Attributes:
        positive: (N,) whether an image is of the class.
        scores: S arrays (N,), one per replicate; higher means more likely.
        known: (N,) whether it is known that an image is of the class or not; others are left out. None for all.
    """

    positive: BoolArray
    scores: Sequence[NDArray[np.floating]]
    known: BoolArray | None = None


def ranking_proportions(
    classes: Iterable[RankedClass], group: IntArray, *, for_means: bool = False
) -> tuple[Proportions, Proportions]:
    """AUROC and average precision of each class against all others.

    - AUROC: mean over the replicates, with DeLong's variance for clustered data, see `auroc_limits`. n counts all known images.
    - average precision: mean over the positives of the precision at each, with the Wilson interval for the effective
      sample size of the positives, after the binomial interval of Boyd, Eng & Page (2013). n counts the positives.

    Args:
        classes: K, used one at a time.
        group: (N,) codes 0..G-1.
        for_means: whether means over the classes are taken, for which (G, K) residuals are kept.

    Returns:
        nan with n = 0 for a class without a positive or without a negative image.
    """
    groups = int(group.max()) + 1
    found = []
    for of_class in classes:
        both = _ranked(of_class, group, groups)
        found.append(both if for_means else [replace(one, residuals=None) for one in both])
    auroc, precision = (joined(parts) for parts in zip(*found, strict=True))
    return auroc, precision


def _ranked(of_class: RankedClass, group: IntArray, groups: int) -> tuple[Proportions, Proportions]:
    """AUROC and average precision of one class (K = 1)."""
    known = slice(None) if of_class.known is None else of_class.known
    positive, group = of_class.positive[known], group[known]
    positives = int(np.count_nonzero(positive))
    if not 0 < positives < len(positive):
        nan = np.full(1, np.nan)
        undefined = Proportions(nan, nan, nan, np.zeros(1, dtype=np.int64), np.zeros((groups, 1)))
        return undefined, undefined
    placed, precision = np.zeros(len(positive)), np.zeros(positives)
    for score in of_class.scores:
        placements, at_positives = placements_and_precision(positive, score[known])
        placed += placements
        precision += at_positives
    placed /= len(of_class.scores)
    precision /= len(of_class.scores)
    value = np.array([placed[positive].mean()])
    residuals = auroc_residuals(positive, placed, group, groups)[:, None]
    images = np.stack([np.bincount(group[own], minlength=groups) for own in (positive, ~positive)])
    low, high = auroc_limits(value, residuals, *(images > 0).sum(axis=1, keepdims=True))
    auroc = Proportions(value, low, high, np.array([len(positive)]), residuals)
    hits = np.bincount(group[positive], weights=precision, minlength=groups)[:, None]
    mean = np.array([precision.sum() / positives])
    of_positives = proportions(mean, hits, images[0][:, None], np.array([positives]))
    # The precision at a positive is not binary, so that the mean over classes uses MOVER alone.
    return auroc, replace(of_positives, trials=None)


def placements_and_precision(
    positive: BoolArray, score: NDArray[np.floating]
) -> tuple[FloatArray, FloatArray]:
    """Placement values and the precision at each positive, from one sort of the scores.

    Args:
        positive, score: (N,).

    Returns:
        (N,) for each positive the proportion of negatives below it, for each negative the proportion of positives above
        it; ties count half, and the mean over either is the AUROC (DeLong, DeLong & Clarke-Pearson 1988). nan without a
        positive or without a negative image. (P,) for each positive the proportion of positives among the images that
        score as high or higher; their mean is the average precision.
    """
    order = np.argsort(score)
    first, end = _ties(score[order])
    is_positive, count, positives = positive[order], len(score), np.count_nonzero(positive)
    before = np.concatenate([[0], np.cumsum(is_positive)])  # positives among the k lowest
    # Half of the images of one score count as lower.
    lower_positives = (before[first] + before[end]) / 2
    lower_negatives = (first + end) / 2 - lower_positives
    placed, precision = np.full(count, np.nan), np.empty(count)
    if 0 < positives < count:
        below, above = lower_negatives / (count - positives), 1 - lower_positives / positives
        placed[order] = np.where(is_positive, below, above)
    precision[order] = (positives - before[first]) / (count - first)
    return placed, precision[positive]


def precision_and_influence(
    positive: BoolArray, score: NDArray[np.floating]
) -> tuple[FloatArray, FloatArray]:
    """The precision at each positive, whose mean is the average precision, and the influence of each image on that mean.

    The influence is the derivative of the average precision with respect to the weight of an image (times one image): that
    of a positive which is ranked high is above 0, that of a negative which is ranked above positives is below 0. It sums to
    0, and the sum of its squares over independent images estimates the variance of the average precision.

    Args:
        positive, score: (N,), with a positive image.

    Returns:
        (P,) and (N,), both in the order of the images.
    """
    order = np.argsort(score)
    first, end = _ties(score[order])
    is_positive, count, positives = positive[order], len(score), int(np.count_nonzero(positive))
    before = np.concatenate([[0], np.cumsum(is_positive)])
    hits, above = (positives - before[first]).astype(np.float64), (count - first).astype(np.float64)
    precision = hits / above
    # What one more image above a positive changes: its precision k / m becomes (k + 1) / (m + 1) or k / (m + 1).
    gain, loss = (np.cumsum(np.where(is_positive, each, 0.0)) for each in (1 / above, hits / above**2))
    # Positives that an image is ranked above are those up to the end of its own run of equal scores.
    last = end - 1
    changed = (np.where(is_positive, gain[last], 0.0) - loss[last]) / positives
    own = np.where(is_positive, precision - precision[is_positive].mean(), 0.0) / positives
    influence, at_positives = np.empty(count), np.empty(count)
    influence[order], at_positives[order] = changed + own, precision
    return at_positives[positive], influence


def _ties(ordered: NDArray[np.floating]) -> tuple[IntArray, IntArray]:
    """(N,) start and end of the run of equal scores that each ordered score belongs to."""
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    ends = np.append(starts[1:], len(ordered))
    return np.repeat(starts, ends - starts), np.repeat(ends, ends - starts)


def auroc_residuals(
    positive: BoolArray, placed: FloatArray, group: IntArray, groups: int | None = None
) -> FloatArray:
    """Contribution (G,) of each group to the error of the AUROC; their squares add up to its variance.

    With one image per group these are DeLong's components; errors within a group are correlated, as in Obuchowski (1997).

    Args:
        positive: (N,).
        placed: (N,) from `placements_and_precision`, or its mean over replicates.
        group: (N,) codes 0..G-1.
        groups: G; None if the last group has an image.
    """
    total = np.zeros(groups or group.max() + 1)
    for own in (positive, ~positive):
        deviation = placed[own] - placed[own].mean()
        holding = int(np.count_nonzero(np.bincount(group[own])))
        # The usual G / (G - 1), for each kind by itself.
        scale = np.sqrt(holding / max(holding - 1, 1)) / np.count_nonzero(own)
        total += np.bincount(group[own], weights=deviation * scale, minlength=len(total))
    return total


def auroc_limits(
    auroc: FloatArray, residuals: FloatArray, positives: IntArray, negatives: IntArray
) -> intervals.Limits:
    """95 % limits (K,) of AUROCs (K,) by DeLong's variance, on the scale of log-odds, so that they stay in 0..1.

    The quantile is Student's for the smaller kind, as a variance from a handful of groups is itself uncertain. Where
    nothing varies (an AUROC of 0 or 1) the limits are Wilson's for as many trials as the smaller kind has groups: the
    variance of an AUROC A is at most A (1 - A) over that number (Birnbaum 1956).

    Args:
        residuals: (G, K) from `auroc_residuals`.
        positives, negatives: (K,) groups that hold such images.
    """
    fewer = np.minimum(positives, negatives).astype(np.float64)
    spread = np.sqrt((residuals**2).sum(axis=0))
    varies = (auroc > 0) & (auroc < 1) & (spread > 0) & (fewer > 1)
    centre = np.where(varies, auroc, 0.5)
    half = t_quantile(0.975, np.maximum(fewer - 1, 1)) * spread / (centre * (1 - centre))
    low, high = intervals.wilson(auroc, fewer)
    middle = special.logit(centre)
    return (
        np.where(varies, special.expit(middle - half), low),
        np.where(varies, special.expit(middle + half), high),
    )


def average_precision(positive: BoolArray, score: NDArray[np.floating]) -> float:
    """Step-wise area under the precision-recall curve; nan without a positive or without a negative image."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(placements_and_precision(positive, score)[1].mean())
