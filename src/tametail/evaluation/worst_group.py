"""The lowest balanced accuracy of several subgroups of the images, such as those of each site.

Shape legend: S replicates, N images, V subgroups, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.intervals import Estimate, mean_of_proportions, proportions
from tametail.evaluation.metrics import mean_over
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions


def lowest_balanced_accuracy(hits: ArrayLike, images: ArrayLike) -> FloatArray:
    """The lowest mean recall of a subgroup, over the classes that are present in it, shape (...).

    Args:
        hits: (..., V, C) correct images.
        images: (..., V, C) images; broadcast with ``hits``.

    Returns:
        nan where there are no images; a subgroup without images does not count.
    """
    return np.asarray(np.fmin.reduce(balanced_accuracies(hits, images), axis=-1))


def balanced_accuracies(hits: ArrayLike, images: ArrayLike) -> FloatArray:
    """Mean recall (..., V) of each subgroup over its classes; arguments as for `lowest_balanced_accuracy`."""
    right, n = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(images, dtype=np.float64))
    recall = np.divide(right, n, out=np.zeros(right.shape), where=n > 0)
    return mean_over(recall, n > 0)


def worst_group(replicates: Sequence[Predictions], subgroup: IntArray) -> Estimate:
    """Estimate the lowest balanced accuracy of a subgroup, of recalls that are means over the replicates.

    The lowest of several estimates is biased downwards. The interval accounts for it: its lower limit is the lowest one of
    all subgroups, which is below that of the truly worst one; its upper limit is the lowest of upper limits that hold for all
    subgroups at once, by Bonferroni's correction. It is conservative.

    Args:
        replicates: tables over the same images, each in the order of the image ids.
        subgroup: (N,) codes 0..V-1; -1 for images of no subgroup.

    Returns:
        n counts the images of subgroups; nan with n = 0 if there is none.

    Raises:
        ValueError: as `sample.Sample`.
    """
    codes = np.unique(subgroup[subgroup >= 0])
    if codes.size == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    values, low, high = [], [], []
    for code in codes:
        sample = Sample([table.take(subgroup == code) for table in replicates])
        present, counts = sample.present, sample.counts
        value = sample.recall.value[present]
        by_group = counts.mean_hits[:, present], counts.actual[:, present]
        values.append(float(value.mean()))
        low.append(sample.balanced_accuracy.low)
        confidence = 1 - 0.05 / len(codes)
        wide = proportions(value, *by_group, sample.class_n[present], confidence=confidence)
        assert wide.trials is not None
        of_each = value, wide.low, wide.high, wide.trials, wide.residuals
        high.append(float(mean_of_proportions(*of_each, confidence=confidence)[1]))
    return Estimate(min(values), min(low), min(high), int(np.count_nonzero(subgroup >= 0)))
