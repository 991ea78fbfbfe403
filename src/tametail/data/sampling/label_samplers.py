"""Samplers for images with several labels: images with rare labels are shown more often.

Labels occur together, so that showing an image more often for its rare label shows its frequent ones more often too. The weights
of images are therefore found for all labels at once, by iterative proportional fitting (Deming & Stephan 1940).

Shape legend: n rows of the training set, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from tametail.core.arrays import FloatArray, IntArray
from tametail.data.sampling.samplers import (
    EpochOrder,
    SamplerName,
    ShuffledOrder,
    deferred_start,
    permutation,
    stream,
)

_ROUNDS = 200
_HALVINGS = 60
_MOST = 20.0  # times as often as without the sampler that an image is shown at most, and as seldom at least
_ORDER, _START = 0, 4


class WeightedOrder(EpochOrder):
    """n images per epoch, each in proportion to its weight: their numbers never differ by one or more from the exact ones.

    Args:
        n: images of the training set.
        seed: of the order.
        weights: epoch → (n,) weights, 0 or more, not all 0.
    """

    def __init__(self, n: int, seed: int, weights: Callable[[int], FloatArray]) -> None:
        super().__init__(n, seed)
        self._weights = weights

    def positions(self, epoch: int) -> IntArray:
        mixed = permutation(self.n, self.seed, epoch, _START)
        weights = self._weights(epoch)[mixed]
        ends = np.cumsum(weights) / weights.sum() * self.n
        start = float(stream(self.seed, epoch, _START).random())
        drawn = np.searchsorted(ends, np.arange(self.n) + start, side="right")
        chosen = mixed[np.minimum(drawn, self.n - 1)]
        return np.asarray(chosen[permutation(self.n, self.seed, epoch, _ORDER)])


def make_label_order(
    sampler: SamplerName,
    labels: ArrayLike,
    *,
    seed: int,
    epochs: int | None = None,
    deferred_from: float = 0.8,
) -> EpochOrder:
    """Create a sampler by name for several labels per image. All have n images per epoch.

    - ``shuffled``: every image once per epoch;
    - ``balanced``: every label equally often, as far as labels that occur together allow, see `label_weights`;
    - ``sqrt``: labels in proportion to the square roots of their counts;
    - ``progressive``: linearly from equal weights of the images in the first epoch to those of ``balanced`` in the last;
    - ``deferred``: ``shuffled``, then ``balanced`` in the last epochs.

    Args:
        labels: (n, C), above 0 where an image has a label; nan is unknown, and counts as absent.
        epochs, deferred_from: see `tametail.data.sampling.samplers.make_order`.

    Raises:
        ValueError: ``progressive`` or ``deferred`` without ``epochs``, or ``deferred_from`` out of range.
    """
    has = np.asarray(labels) > 0
    n = len(has)
    if sampler == "shuffled":
        return ShuffledOrder(n, seed)
    weights = label_weights(has, 0.5 if sampler == "sqrt" else 0.0)
    if sampler in ("balanced", "sqrt"):
        return WeightedOrder(n, seed, lambda epoch: weights)
    if sampler == "deferred":
        first = deferred_start(epochs, deferred_from)
        return WeightedOrder(n, seed, lambda epoch: weights if epoch >= first else np.ones(n))
    if epochs is None:
        raise ValueError(f"expected the number of epochs of the training for the {sampler} sampler, got None")
    last = max(epochs - 1, 1)

    def mixed(epoch: int) -> FloatArray:
        done = min(epoch / last, 1.0)
        return np.asarray((1 - done) + done * weights)

    return WeightedOrder(n, seed, mixed)


def label_weights(has: ArrayLike, power: float) -> FloatArray:
    """Weights (n,) of images with a mean of 1, by which each label is shown in proportion to its count to a power.

    Images without labels keep a weight of 1, and no image is shown more than 20 times as often as without the sampler; labels that
    always occur with others cannot be balanced with them.

    Args:
        has: (n, C) bool.
        power: 0 for equally frequent labels, 1 for the frequencies of the training set.
    """
    labels = np.asarray(has, dtype=np.float64)
    labels = labels[:, labels.any(axis=0)]
    weights = np.ones(len(labels))
    with_label = labels.any(axis=1)
    if not with_label.any():
        return weights
    own = labels[with_label]
    share = own / own.sum(axis=1, keepdims=True)
    wanted = own.sum(axis=0) ** power
    log_weight = np.zeros(len(own))
    for _ in range(_ROUNDS):
        found = np.exp(log_weight) @ own
        step = share @ (np.log(wanted / wanted.sum()) - np.log(found / found.sum()))
        moved = log_weight + step
        moved -= math.log(float(np.exp(moved).mean()))
        moved = np.clip(moved, -math.log(_MOST), math.log(_MOST))
        change, log_weight = float(np.abs(moved - log_weight).max()), moved
        if change < 1e-6:
            break
    weights[with_label] = np.exp(_with_mean_one(log_weight))
    return weights


def _with_mean_one(log_weight: FloatArray) -> FloatArray:
    """Shifted within the bounds to weights with a mean of 1: images at a bound would otherwise change the share of the others."""
    bound = math.log(_MOST)
    low, high = -2 * bound, 2 * bound
    for _ in range(_HALVINGS):
        shift = (low + high) / 2
        mean = float(np.exp(np.clip(log_weight + shift, -bound, bound)).mean())
        low, high = (shift, high) if mean < 1 else (low, shift)
    return np.clip(log_weight + (low + high) / 2, -bound, bound)
