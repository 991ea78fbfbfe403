"""Thresholds of labels that maximise F1, and the score that ranks methods without intervals.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.evaluation import metrics
from tametail.evaluation.ranking_metrics import average_precision
from tametail.evaluation.sample import assigned_parts, group_codes
from tametail.predictions.multi_label import LabelPredictions

DEFAULT_THRESHOLD = 0.5


def macro_average_precision(table: LabelPredictions) -> float:
    """Mean average precision of the labels with positive and negative images; nan if there is none."""
    columns = zip(table.labels.T, table.logits.T, table.known.T, strict=True)
    values = [average_precision(label[known], logit[known]) for label, logit, known in columns]
    return float(metrics.mean_over(np.array(values), ~np.isnan(values)))


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
    # Images of equal probability are not separated.
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    f1 = 2 * hits[ends] / (ends + 1 + positive.sum())
    end = int(ends[f1.argmax()])
    below = ordered[end + 1] if end + 1 < len(ordered) else 0.0
    return float((ordered[end] + below) / 2)


def deployable_thresholds(tables: Sequence[LabelPredictions]) -> FloatArray:
    """Thresholds (C,) chosen on all out-of-fold predictions together, for deployment."""
    labels = np.concatenate([table.labels for table in tables])
    known = np.concatenate([table.known for table in tables])
    p = np.concatenate([table.posterior for table in tables]).astype(np.float64)
    columns = zip(labels.T, p.T, known.T, strict=True)
    return np.array([best_threshold(label[of], score[of]) for label, score, of in columns])


def out_of_fold_thresholds(table: LabelPredictions) -> FloatArray:
    """Thresholds (N, C) for the images of each fold, chosen on the other folds."""
    found = np.empty(table.labels.shape)
    for fold in np.unique(table.fold):
        own = table.fold == fold
        found[own] = DEFAULT_THRESHOLD if own.all() else deployable_thresholds([table.take(~own)])
    return found


def cross_fitted_thresholds(table: LabelPredictions) -> FloatArray:
    """Thresholds (N, C) for images of one model without folds: for each fifth of the groups chosen on the other four.

    Whole groups are assigned to the fifths of each label, those with a positive image first.
    """
    group, found = group_codes(table), np.empty(table.labels.shape)
    p = table.posterior.astype(np.float64)
    for index, (positive, known) in enumerate(zip(table.labels.T, table.known.T, strict=True)):
        part = assigned_parts(group, positive)
        for each in np.unique(part):
            own = part == each
            found[own, index] = best_threshold(positive[~own & known], p[~own & known, index])
    return found
