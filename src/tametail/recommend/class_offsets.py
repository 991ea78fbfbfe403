"""Class offsets: decision thresholds for several classes, tuned for balanced accuracy.

Shape legend: N images, C classes.
"""

from __future__ import annotations

import numpy as np

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix

_MAX_SWEEPS = 20


def image_weights(target: IntArray, classes: int) -> FloatArray:
    """(N,) contribution of each correct image to the balanced accuracy: 1 / (n_c × classes present)."""
    n = np.bincount(target, minlength=classes)
    return np.asarray(1.0 / (n[target] * np.count_nonzero(n)), dtype=np.float64)


def best_offsets(logits: FloatArray, target: IntArray) -> FloatArray:
    """Tune the offsets (C,) that are added to logits (N, C) for the highest balanced accuracy of the argmax.

    Coordinate ascent from zero: each class in turn gets the best offset given the others, found exactly among all values at
    which a decision changes, until a sweep brings no gain. The result is a local optimum and deterministic. Of equally good
    offsets the one nearest to the current value is taken, midway between two changes.

    Args:
        logits: finite.
        target: class indices.

    Returns:
        Offsets with mean 0, as a constant added to all classes changes no decision.
    """
    classes = logits.shape[1]
    weights, offsets = image_weights(target, classes), np.zeros(classes)
    score = float(balanced_accuracy(confusion_matrix(target, logits.argmax(axis=1), classes)))
    for _ in range(_MAX_SWEEPS):
        before = score
        for of_class in np.unique(target):
            change, new_score = _best_change(logits + offsets, target, weights, int(of_class))
            if new_score > score + 1e-12:
                offsets[of_class] += change
                score = new_score
        if score <= before + 1e-12:
            break
    return np.asarray(offsets - offsets.mean(), dtype=np.float64)


def _best_change(
    logits: FloatArray, target: IntArray, weights: FloatArray, of_class: int
) -> tuple[float, float]:
    """The best constant to add to one class's logits, and the resulting balanced accuracy."""
    others = logits.copy()
    others[:, of_class] = -np.inf
    runner_up = others.argmax(axis=1)
    # An image is assigned to the class from this value on.
    needed = others[np.arange(len(target)), runner_up] - logits[:, of_class]
    order = np.argsort(needed, kind="stable")
    # Each further image assigned to the class is a hit if it belongs to it, and a loss if it was correct before.
    gain = np.where(target == of_class, weights, np.where(runner_up == target, -weights, 0.0))[order]
    at_start = float(weights[(runner_up == target) & (target != of_class)].sum())
    scores = at_start + np.concatenate([[0.0], np.cumsum(gain)])
    changes = needed[order]
    edges = np.concatenate([[changes[0] - 2.0], changes, [changes[-1] + 2.0]])
    distinct = edges[1:] > edges[:-1]  # images that change at the same value change together
    middles = (edges[1:] + edges[:-1]) / 2
    best = np.flatnonzero(distinct & (scores >= scores[distinct].max() - 1e-12))
    chosen = best[np.abs(middles[best]).argmin()]
    return float(middles[chosen]), float(scores[chosen])
