"""How well scores put the images of a label before the others: AUROC and average precision, with group-aware limits.

What one kind of images alone cannot tell is nan. Shape legend: N images, G groups, K labels, P positives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from tametail.core.arrays import BoolArray, FloatArray
from tametail.evaluation import intervals


def placements_and_precision(
    positive: BoolArray, score: NDArray[np.floating]
) -> tuple[FloatArray, FloatArray]:
    """`placements` (N,) and `precision_at_positives` (P,), from one sorting of the scores."""
    order = np.argsort(score)
    first, end = _ties(score[order])
    is_positive, count, positives = positive[order], len(score), np.count_nonzero(positive)
    before = np.concatenate([[0], np.cumsum(is_positive)])  # positives among the k lowest
    # Images of one score come together: half of them count as lower.
    lower_positives = (before[first] + before[end]) / 2
    lower_negatives = (first + end) / 2 - lower_positives
    placed, precision = np.full(count, np.nan), np.empty(count)
    if 0 < positives < count:
        below, above = lower_negatives / (count - positives), 1 - lower_positives / positives
        placed[order] = np.where(is_positive, below, above)
    precision[order] = (positives - before[first]) / (count - first)
    return placed, precision[positive]


def _ties(ordered: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) where the run of equal scores that each ordered score is in begins, and where it ends."""
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    ends = np.append(starts[1:], len(ordered))
    return np.repeat(starts, ends - starts), np.repeat(ends, ends - starts)


def placements(positive: BoolArray, score: NDArray[np.floating]) -> FloatArray:
    """(N,) of each positive the share of negatives below it, of each negative the share of positives above it.

    Ties count half. The mean over the positives is the AUROC, and so is that over the negatives (the structural
    components of DeLong, DeLong & Clarke-Pearson 1988).

    Returns:
        nan for all where there are positives alone, or none.
    """
    return placements_and_precision(positive, score)[0]


def auroc_residuals(positive: BoolArray, placed: FloatArray, group: NDArray[np.int64]) -> FloatArray:
    """(G,) contribution of each group to the error of the AUROC; their squares add up to its variance.

    With one image to a group these are DeLong's components; images of one group err together, as in Obuchowski (1997).

    Args:
        positive: (N,).
        placed: (N,) from `placements`, or its mean over replicates.
        group: (N,) codes 0..G-1.
    """
    total = np.zeros(group.max() + 1)
    for own in (positive, ~positive):
        deviation = placed[own] - placed[own].mean()
        groups = int(np.count_nonzero(np.bincount(group[own])))
        # The usual G / (G - 1), for each kind by itself.
        scale = np.sqrt(groups / max(groups - 1, 1)) / np.count_nonzero(own)
        total += np.bincount(group[own], weights=deviation * scale, minlength=len(total))
    return total


def auroc_limits(
    auroc: FloatArray, residuals: FloatArray, positives: NDArray[np.int64], negatives: NDArray[np.int64]
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
    half = stats.t.ppf(0.975, np.maximum(fewer - 1, 1)) * spread / (centre * (1 - centre))
    low, high = intervals.wilson(auroc, fewer)
    middle = special.logit(centre)
    return (
        np.where(varies, special.expit(middle - half), low),
        np.where(varies, special.expit(middle + half), high),
    )


def precision_at_positives(positive: BoolArray, score: NDArray[np.floating]) -> FloatArray:
    """(P,) of each positive the share of positives among the images that score as high or higher.

    Their mean is the average precision, the step-wise area under the precision-recall curve.
    """
    return placements_and_precision(positive, score)[1]


def average_precision(positive: BoolArray, score: NDArray[np.floating]) -> float:
    """Mean of `precision_at_positives`; nan where there are positives alone, or none."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(precision_at_positives(positive, score).mean())
