"""Class offsets: decision thresholds for several classes, tuned for balanced accuracy or macro-F1.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.metrics import f1_from_counts

OffsetMetric = Literal["balanced_accuracy", "macro_f1"]
_MAX_SWEEPS = 20


def best_offsets(
    logits: FloatArray, target: IntArray, metric: OffsetMetric = "balanced_accuracy"
) -> FloatArray:
    """Tune the offsets (C,) that are added to logits (N, C) for the highest metric of the argmax.

    Coordinate ascent from zero: each class in turn gets the best offset given the others, found exactly among all values at
    which a decision changes, until a sweep brings no gain. The result is a local optimum and deterministic. Of equally good
    offsets the one nearest to the current value is taken, midway between two changes.

    Args:
        logits: finite.
        target: class indices.
        metric: of the classes present.

    Returns:
        Offsets with mean 0, as a constant added to all classes changes no decision.
    """
    classes = logits.shape[1]
    offsets = np.zeros(classes)
    score = float(_scores(*_counts(target, logits.argmax(axis=1), classes), target, metric))
    for _ in range(_MAX_SWEEPS):
        before = score
        for of_class in np.unique(target):
            change, new_score = _best_change(logits + offsets, target, int(of_class), metric)
            if new_score > score + 1e-12:
                offsets[of_class] += change
                score = new_score
        if score <= before + 1e-12:
            break
    return np.asarray(offsets - offsets.mean(), dtype=np.float64)


def _counts(target: IntArray, predicted: IntArray, classes: int) -> tuple[FloatArray, FloatArray]:
    """Correct and predicted images (C,) of each class."""
    hits = np.bincount(target[predicted == target], minlength=classes)
    return hits.astype(np.float64), np.bincount(predicted, minlength=classes).astype(np.float64)


def _scores(hits: FloatArray, predicted: FloatArray, target: IntArray, metric: OffsetMetric) -> FloatArray:
    """The metric (...) of correct and predicted images (..., C) of each class."""
    n = np.bincount(target, minlength=hits.shape[-1])
    present = n > 0
    if metric == "balanced_accuracy":
        return np.asarray((hits[..., present] / n[present]).mean(axis=-1))
    return np.asarray(f1_from_counts(hits, n, predicted)[..., present].mean(axis=-1))


def _best_change(
    logits: FloatArray, target: IntArray, of_class: int, metric: OffsetMetric
) -> tuple[float, float]:
    """The best constant to add to one class's logits, and the resulting metric."""
    classes, rows = logits.shape[1], np.arange(len(target))
    others = logits.copy()
    others[:, of_class] = -np.inf
    runner_up = others.argmax(axis=1)
    # An image is assigned to the class from this value on.
    needed = others[rows, runner_up] - logits[:, of_class]
    order = np.argsort(needed, kind="stable")
    # Each further image assigned to the class is predicted as its runner-up no longer.
    moved = np.zeros((len(target), classes))
    moved[rows, runner_up[order]] = -1.0
    moved[rows, of_class] = 1.0
    right = np.where(np.arange(classes) == target[order, None], moved, 0.0)
    start = _counts(target, runner_up, classes)
    hits, predicted = (
        at_start + np.concatenate([np.zeros((1, classes)), np.cumsum(changes, axis=0)])
        for at_start, changes in zip(start, (right, moved), strict=True)
    )
    scores = _scores(hits, predicted, target, metric)
    changes = needed[order]
    edges = np.concatenate([[changes[0] - 2.0], changes, [changes[-1] + 2.0]])
    distinct = edges[1:] > edges[:-1]  # images that change at the same value change together
    middles = (edges[1:] + edges[:-1]) / 2
    best = np.flatnonzero(distinct & (scores >= scores[distinct].max() - 1e-12))
    chosen = best[np.abs(middles[best]).argmin()]
    return float(middles[chosen]), float(scores[chosen])
