"""From which probability on a label is given: chosen by F1, and never on the images it is judged by.

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
    """The threshold of the highest F1 on these images, half way between two probabilities that occur.

    Of equally good ones the highest. Where the best is to give the label to all images, it lies half way from the
    lowest probability to 0. Without a positive there is nothing to choose by, and it is 0.5.

    Args:
        positive, p: (N,).
    """
    if not positive.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-p, kind="stable")
    ordered, hits = p[order], np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))  # images of one probability go together
    f1 = 2 * hits[ends] / (ends + 1 + positive.sum())
    end = int(ends[f1.argmax()])
    below = ordered[end + 1] if end + 1 < len(ordered) else 0.0
    return float((ordered[end] + below) / 2)


def deployable_thresholds(tables: Sequence[LabelPredictions]) -> FloatArray:
    """(C,) the best threshold of each label on all out-of-fold predictions together; for images yet to come."""
    labels = np.concatenate([table.labels for table in tables])
    p = np.concatenate([table.posterior for table in tables]).astype(np.float64)
    return np.array([best_threshold(labels[:, c], p[:, c]) for c in range(labels.shape[1])])


def out_of_fold_thresholds(table: LabelPredictions) -> FloatArray:
    """(N, C) for the images of each fold the best threshold on those of the other folds.

    No label of a fold takes part in the choice of its own thresholds. (The models that predicted the other folds were
    trained with it, as always in cross-validation; a threshold is one number, and can remember little of that.)
    """
    found = np.empty(table.labels.shape)
    for fold in np.unique(table.fold):
        own = table.fold == fold
        found[own] = DEFAULT_THRESHOLD if own.all() else deployable_thresholds([table.take(~own)])
    return found
