"""Net benefit of acting on the probability of one class, and the decision curve over thresholds (Vickers & Elkin 2006).

Shape legend: S replicates, N images, G groups, K thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.core.arrays import BoolArray, FloatArray, IntArray, row_blocks
from tametail.evaluation.intervals import Estimate, Proportions, proportions
from tametail.evaluation.sample import align, group_codes
from tametail.predictions.single_label import Predictions

DEFAULT_THRESHOLDS = tuple(percent / 100 for percent in range(1, 100))
_ENTRIES = 1_000_000  # numbers of groups and thresholds that are held at once: 8 MB


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit of acting where the probability of a class is at least ``threshold``; that of acting on no image is 0.

    In true positives per image: at most the prevalence, and negative where the false alarms outweigh the true positives. The
    n of each estimate counts the images.

    Attributes:
        threshold: t, above 0 and below 1. A false positive counts t / (1 - t) of a true positive.
        model: TP / n - FP / n · t / (1 - t).
        treat_all: the same if every image is acted on.
        over_treat_all: ``model`` minus ``treat_all``, on the same images.
    """

    threshold: float
    model: Estimate
    treat_all: Estimate
    over_treat_all: Estimate


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit of one class against all others, at increasing thresholds.

    Attributes:
        class_name: the class.
        points: one for each threshold.
        positives: images of the class.
    """

    class_name: str
    points: tuple[NetBenefit, ...]
    positives: int


def benefits(positive: BoolArray, p: NDArray[np.floating], threshold: float) -> FloatArray:
    """Contribution (N,) of each image, whose mean is the net benefit: 1, 0, or -t / (1 - t) for a false positive.

    Args:
        positive: (N,) whether an image is of the class.
        p: (N,) its probability.
        threshold: t, above 0 and below 1.

    Raises:
        ValueError: a threshold outside its range.
    """
    odds = _odds(threshold)
    return np.where(p >= threshold, np.where(positive, 1.0, -odds), 0.0)


def decision_curve(
    replicates: Sequence[Predictions], class_index: int, thresholds: Sequence[float] = DEFAULT_THRESHOLDS
) -> DecisionCurve:
    """Net benefit of the calibrated probabilities of one class at several thresholds, with 95 % intervals.

    A threshold t is read as a probability, so that ``replicates`` should be calibrated, see
    `calibration_maps.calibrate_out_of_fold`; an image is acted on if its probability is at least t. Values are means over
    the replicates, at the prevalence of these images.

    The net benefit at a fixed threshold is a difference of two proportions of all images, TP / n and FP / n, with a known
    weight. Its limits are those of MOVER (Zou & Donner 2008) from the Wilson limits of both with the effective sample size
    of clustered data: closed, and unlike the bootstrap they keep their width where few images are acted on, or none. So are
    those of the gain over treating all, w · TN / n - FN / n, and of treating all itself, which is linear in the prevalence.
    The limits hold at each threshold, not for the whole curve at once.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        class_index: into the class names.
        thresholds: K, each above 0 and below 1, in increasing order.

    Raises:
        ValueError: no table, no image, tables that differ in images, groups, targets or classes, no such class, or thresholds
            outside their range or not increasing.
    """
    tables = align(replicates)
    names = tables[0].class_names
    if not 0 <= class_index < len(names):
        raise ValueError(f"expected a class index in 0..{len(names) - 1}, got {class_index}")
    cuts = np.asarray(thresholds, dtype=np.float64)
    if cuts.size == 0 or (np.diff(cuts) <= 0).any():
        raise ValueError(f"expected at least one threshold, in increasing order, got {list(thresholds)}")
    odds = _odds(cuts)
    positive = np.asarray(tables[0].target == class_index)
    p = [table.class_probabilities(class_index) for table in tables]
    group = group_codes(tables[0])
    points = [
        point
        for of in row_blocks(len(cuts), max(1, _ENTRIES // (int(group.max()) + 1)))
        for point in _points(positive, p, group, cuts[of], odds[of])
    ]
    return DecisionCurve(names[class_index], tuple(points), int(positive.sum()))


def net_benefit(replicates: Sequence[Predictions], class_index: int, threshold: float) -> NetBenefit:
    """Net benefit at one threshold, see `decision_curve`."""
    return decision_curve(replicates, class_index, [threshold]).points[0]


def _odds(threshold: ArrayLike) -> FloatArray:
    """t / (1 - t), (K,)."""
    cuts = np.asarray(threshold, dtype=np.float64)
    if not ((cuts > 0) & (cuts < 1)).all():
        raise ValueError(f"expected thresholds above 0 and below 1, got {threshold!r}")
    return cuts / (1 - cuts)


def _points(
    positive: BoolArray, p: Sequence[FloatArray], group: IntArray, cuts: FloatArray, odds: FloatArray
) -> list[NetBenefit]:
    size = np.bincount(group)
    of_class = np.bincount(group, positive, len(size))[:, None]
    others = size[:, None] - of_class

    def found(kind: BoolArray) -> FloatArray:
        """Images (G, K) of this kind (N,) that are acted on, mean over the replicates."""
        counts = np.zeros((len(size), len(cuts)), dtype=np.int64)
        for of_table in p:
            # An image is acted on up to the last threshold that is not above its probability.
            last = np.searchsorted(cuts, of_table[kind], side="right")
            cell = group[kind] * (len(cuts) + 1) + last
            ended = np.bincount(cell, minlength=len(size) * (len(cuts) + 1)).reshape(len(size), -1)
            counts += ended[:, :0:-1].cumsum(axis=1)[:, ::-1]
        # One threshold after another in memory: sums over the groups are then a third faster.
        return np.asfortranarray(counts / len(p))

    true, false, n = found(positive), found(~positive), int(size.sum())

    def of_all(counts: NDArray[np.number]) -> Proportions:
        """Proportions (K,) of counts (G, K) among all images."""
        value = np.clip(counts.sum(axis=0) / n, 0.0, 1.0)  # as rounding may put a sum slightly outside
        trials = np.broadcast_to(size[:, None], counts.shape)
        return proportions(value, counts, trials, np.full(counts.shape[1], n))

    one = np.ones(len(cuts))
    prevalence = of_all(of_class).estimate(0)
    model = _difference(of_all(true), one, of_all(false), odds)
    over_treat_all = _difference(of_all(others - false), odds, of_all(of_class - true), one)
    return [
        NetBenefit(float(cut), of_model, _treat_all(prevalence, float(weight)), gain)
        for cut, weight, of_model, gain in zip(cuts, odds, model, over_treat_all, strict=True)
    ]


def _treat_all(prevalence: Estimate, odds: float) -> Estimate:
    """Prevalence - (1 - prevalence) odds."""
    limits = prevalence.value, prevalence.low, prevalence.high
    value, low, high = ((1 + odds) * limit - odds for limit in limits)
    return Estimate(value, low, high, prevalence.n)


def _difference(a: Proportions, by: FloatArray, b: Proportions, less: FloatArray) -> list[Estimate]:
    """The K differences by · a - less · b with the limits of MOVER.

    Correlations of the groups' residuals enter, but never make an interval narrower than under independence, as in
    `intervals.mover_mean`.
    """
    assert isinstance(a.residuals, np.ndarray)
    assert isinstance(b.residuals, np.ndarray)
    product = np.sqrt((a.residuals**2).sum(axis=0) * (b.residuals**2).sum(axis=0))
    covariance = (a.residuals * b.residuals).sum(axis=0)
    correlation = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
    against = np.maximum(-correlation, 0.0)

    def together(of_a: FloatArray, of_b: FloatArray) -> FloatArray:
        x, y = by * of_a, less * of_b
        return np.asarray(np.sqrt(x**2 + y**2 + 2 * against * x * y))

    value = by * a.value - less * b.value
    low = np.maximum(value - together(a.value - a.low, b.high - b.value), -less)
    high = np.minimum(value + together(a.high - a.value, b.value - b.low), by)
    rows = np.stack([value, low, high], axis=1).tolist()
    return [Estimate(of_value, of_low, of_high, int(a.n[0])) for of_value, of_low, of_high in rows]
