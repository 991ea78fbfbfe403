"""Thresholds of multi-label predictions that maximise F1, chosen by cross-validation.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.predictions.multi_label import LabelPredictions

DEFAULT_THRESHOLD = 0.5


def best_threshold(positive: NDArray[np.bool_], p: FloatArray) -> float:
    """The threshold with the highest F1 on these images, halfway between two probabilities that occur.

    The highest of several optima. If it is best to predict the label for all images, it is half the lowest probability.
    Without a positive it is 0.5.

    Args:
        positive, p: (N,).
    """
    if not positive.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-p, kind="stable")
    ordered, hits = p[order], np.cumsum(positive[order])
    ends = np.flatnonzero(
        np.append(np.diff(ordered) != 0, True)
    )  # images of equal probability are not separated
    f1 = 2 * hits[ends] / (ends + 1 + positive.sum())
    end = int(ends[f1.argmax()])
    below = ordered[end + 1] if end + 1 < len(ordered) else 0.0
    return float((ordered[end] + below) / 2)


def deployable_thresholds(tables: Sequence[LabelPredictions]) -> FloatArray:
    """Thresholds (C,) chosen on all out-of-fold predictions together, for deployment."""
    labels = np.concatenate([table.labels for table in tables])
    p = np.concatenate([table.posterior for table in tables]).astype(np.float64)
    return np.array([best_threshold(labels[:, c], p[:, c]) for c in range(labels.shape[1])])


def out_of_fold_thresholds(table: LabelPredictions) -> FloatArray:
    """Thresholds (N, C) for the images of each fold, chosen on the other folds.

    (The models that predicted the other folds were trained with its images, as always in cross-validation.)
    """
    found = np.empty(table.labels.shape)
    for fold in np.unique(table.fold):
        own = table.fold == fold
        found[own] = DEFAULT_THRESHOLD if own.all() else deployable_thresholds([table.take(~own)])
    return found
