"""AUROC and average precision of every class or label at once, with intervals, over replicates.

Shape legend: S replicates, N images, G groups, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.evaluation import ranking_metrics
from tametail.evaluation.proportions import Proportions, proportions, sums_by_group


def rank_shares(
    positive: NDArray[np.bool_], scores: Iterable[NDArray[np.floating]], group: NDArray[np.int64]
) -> tuple[Proportions, Proportions]:
    """AUROC and average precision of one against the others; nan with n = 0 where images of one kind are missing.

    - AUROC: mean over the replicates; DeLong's variance for images that come in groups, see `ordering.auroc_limits`.
      Its n counts all images.
    - average precision: the mean over the positives of the precision at each; Wilson with the effective sample size
      of the positives, after the binomial interval of Boyd, Eng & Page (2013). Its n counts the positives.

    Args:
        positive: (N, K) which images are of a class.
        scores: S times (N, K), one per replicate; the higher, the more of the class. Taken one at a time.
        group: (N,) codes 0..G-1.
    """
    count, positives = len(positive), positive.sum(axis=0)
    both = (positives > 0) & (positives < count)
    # Sums over the replicates, a class per row; the precision is 0 at negatives, which take no part.
    placed, precision = np.zeros(positive.shape[::-1]), np.zeros(positive.shape[::-1])
    replicates = 0
    for score in scores:
        replicates += 1
        by_class = np.ascontiguousarray(score.T)
        for k in np.flatnonzero(both):
            of_class = positive[:, k]
            placements, at_positives = ranking_metrics.placements_and_precision(of_class, by_class[k])
            placed[k] += placements
            precision[k, of_class] += at_positives
    placed /= replicates
    precision /= replicates
    mean = np.where(both, precision.sum(axis=1) / np.maximum(positives, 1), np.nan)
    own_groups = sums_by_group(positive, group)
    of_positives = proportions(
        mean, sums_by_group(precision.T, group), own_groups, np.where(both, positives, 0)
    )
    # The precision at a positive is no yes or no, so that the mean over classes is left to MOVER.
    return _auroc(positive, placed, group, both), replace(of_positives, trials=None)


def _auroc(
    positive: NDArray[np.bool_], placed: FloatArray, group: NDArray[np.int64], both: NDArray[np.bool_]
) -> Proportions:
    value = np.full(len(placed), np.nan)
    residuals = np.zeros((group.max() + 1, len(placed)))
    for k in np.flatnonzero(both):
        value[k] = placed[k, positive[:, k]].mean()
        residuals[:, k] = ranking_metrics.auroc_residuals(positive[:, k], placed[k], group)
    groups = [(sums_by_group(kind, group) > 0).sum(axis=0) for kind in (positive, ~positive)]
    low, high = ranking_metrics.auroc_limits(value, residuals, *groups)
    return Proportions(value, low, high, np.where(both, len(positive), 0), residuals)
