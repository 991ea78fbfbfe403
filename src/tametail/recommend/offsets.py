"""A number for each class, added to its logit: the threshold of a decision among several classes.

Shape legend: N images, C classes.
"""

from __future__ import annotations

import numpy as np

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix

_SWEEPS = 20


def image_weights(target: IntArray, classes: int) -> FloatArray:
    """(N,) what an image that is predicted right adds to the balanced accuracy: 1 / (n_c × classes present)."""
    n = np.bincount(target, minlength=classes)
    return np.asarray(1.0 / (n[target] * np.count_nonzero(n)), dtype=np.float64)


def best_offsets(logits: FloatArray, target: IntArray) -> FloatArray:
    """Offsets (C,) that are added to logits (N, C), so that the largest decides with the highest balanced accuracy.

    Coordinate ascent from no offsets: one class after the other gets the best offset given the others, by a look at every
    place where a decision changes, until a sweep gains nothing. A local optimum, found the same way every time. Of equally
    good offsets the one nearest to what was there is taken, half way between two places.

    Args:
        logits: finite.
        target: class indices.

    Returns:
        Offsets whose mean is 0, as a number added to all changes no decision.
    """
    classes = logits.shape[1]
    weights, found = image_weights(target, classes), np.zeros(classes)
    score = float(balanced_accuracy(confusion_matrix(target, logits.argmax(axis=1), classes)))
    for _ in range(_SWEEPS):
        before = score
        for of_class in np.unique(target):
            offset, new = _best_offset(logits + found, target, weights, int(of_class))
            if new > score + 1e-12:
                found[of_class] += offset
                score = new
        if score <= before + 1e-12:
            break
    return np.asarray(found - found.mean(), dtype=np.float64)


def _best_offset(
    logits: FloatArray, target: IntArray, weights: FloatArray, of_class: int
) -> tuple[float, float]:
    """What to add to one class's logits, and the balanced accuracy with it."""
    others = logits.copy()
    others[:, of_class] = -np.inf
    without = others.argmax(axis=1)
    needed = (
        others[np.arange(len(target)), without] - logits[:, of_class]
    )  # from here on the class is decided for
    order = np.argsort(needed, kind="stable")
    # One image more goes over to the class: right if it is of it, wrong if it was right before.
    gain = np.where(target == of_class, weights, np.where(without == target, -weights, 0.0))[order]
    at_start = float(weights[(without == target) & (target != of_class)].sum())
    scores = at_start + np.concatenate([[0.0], np.cumsum(gain)])
    places = needed[order]
    edges = np.concatenate([[places[0] - 2.0], places, [places[-1] + 2.0]])
    apart = edges[1:] > edges[:-1]  # images of one place go together
    middles = (edges[1:] + edges[:-1]) / 2
    best = np.flatnonzero(apart & (scores >= scores[apart].max() - 1e-12))
    chosen = best[np.abs(middles[best]).argmin()]
    return float(middles[chosen]), float(scores[chosen])
