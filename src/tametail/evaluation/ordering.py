"""How well scores put the images of a label before the others: AUROC and average precision, with group-aware limits.

What one kind of images alone cannot tell is nan. Shape legend: N images, G groups, K labels, P positives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from tametail.evaluation import intervals

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]


def placements(positive: Mask, score: NDArray[np.floating]) -> FloatArray:
    """(N,) of each positive the share of negatives below it, of each negative the share of positives above it.

    Ties count half. The mean over the positives is the AUROC, and so is that over the negatives (the structural
    components of DeLong, DeLong & Clarke-Pearson 1988).

    Returns:
        nan for all where there are positives alone, or none.
    """
    if positive.all() or not positive.any():
        return np.full(len(positive), np.nan)
    overall, found = stats.rankdata(score), np.empty(len(positive))
    for own, above in ((positive, False), (~positive, True)):
        share = (overall[own] - stats.rankdata(score[own])) / np.count_nonzero(~own)
        found[own] = 1 - share if above else share
    return found


def auroc_residuals(positive: Mask, placed: FloatArray, group: NDArray[np.int64]) -> FloatArray:
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
        groups = len(np.unique(group[own]))
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


def precision_at_positives(positive: Mask, score: NDArray[np.floating]) -> FloatArray:
    """(P,) of each positive the share of positives among the images that score as high or higher.

    Their mean is the average precision, the step-wise area under the precision-recall curve.
    """
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], np.cumsum(positive[order])
    # Images of one score come together: each sees all of them.
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    precision = hits[last] / (last + 1.0)
    found = np.empty(len(score))
    found[order] = precision
    return found[positive]


def average_precision(positive: Mask, score: NDArray[np.floating]) -> float:
    """Mean of `precision_at_positives`; nan where there are positives alone, or none."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(precision_at_positives(positive, score).mean())
