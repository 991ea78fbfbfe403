"""Macro F1, MCC and quadratic kappa: one number for all decisions, with intervals that share one bootstrap.

Shape legend: S replicates, G groups, C classes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tametail.core.arrays import FloatArray
from tametail.evaluation import bootstrap, intervals, metrics
from tametail.evaluation.counts import Counts
from tametail.evaluation.proportions import Estimate


@dataclass(frozen=True)
class Overall:
    """Macro F1, MCC, and kappa where the classes are ordered."""

    macro_f1: Estimate
    mcc: Estimate
    kappa: Estimate | None


def overall(
    counts: Counts, macro_f1: Estimate, accuracy: Estimate, *, ordered: bool, resamples: int, seed: int
) -> Overall:
    """Intervals by the stratified group bootstrap, widened on each side where that is too sure of itself.

    The bootstrap follows any skew, but has no width where nothing is wrong, and little where little is. So the macro F1
    takes at least its MOVER limits; MCC what the Wilson limits of the accuracy come to, as with the counts of true and
    predicted classes held fixed it is linear in the accuracy; and kappa what the limits of the mean squared distance
    come to, see `intervals.weighted_rate`: a mistake one step further than the furthest seen may be yet to come.

    Args:
        macro_f1: with MOVER limits.
        accuracy: with Wilson limits.
        ordered: whether the order of the classes means something, so that there is a kappa.
    """
    # A group of several classes goes with its rarest, so that the tail is what keeps its size.
    size = np.where(counts.actual > 0, counts.actual.sum(axis=0), np.iinfo(np.int64).max)
    per_group = np.concatenate([counts.actual[None], counts.predicted, counts.hits]).swapaxes(0, 1)
    per_group = per_group.reshape(len(per_group), -1)
    if ordered:
        per_group = np.concatenate([per_group, counts.distance.T], axis=1)
    classes = counts.actual.shape[1]
    strata = size.argmin(axis=1).astype(np.int64)
    low, high = bootstrap.group_bootstrap(
        per_group,
        strata,
        lambda summed: _statistics(summed, classes, ordered=ordered),
        resamples=resamples,
        seed=seed,
    )
    mcc, kappa = _mcc(counts, accuracy), _kappa(counts) if ordered else None
    return Overall(
        _widened(macro_f1, low[0], high[0]),
        _widened(mcc, low[1], high[1]),
        _widened(kappa, low[2], high[2]) if kappa else None,
    )


def _statistics(summed: FloatArray, classes: int, *, ordered: bool) -> FloatArray:
    """(R, 2 or 3) macro F1, MCC and kappa, each a mean over the replicates, of counts summed over groups.

    Args:
        summed: (R, C + S C + S C + S) of true classes, predicted ones, hits, and distances where ordered.
    """
    rows, width = summed.shape
    replicates = (width - classes) // (2 * classes + ordered)
    decisions = summed[:, : classes * (2 * replicates + 1)].reshape(rows, -1, classes)
    actual, predicted, hits = np.split(decisions, [1, replicates + 1], axis=1)
    f1 = metrics.f1_from_counts(hits, actual, predicted)
    found = [
        metrics.mean_over(f1, np.broadcast_to(actual > 0, f1.shape)),
        metrics.mcc_from_counts(hits, actual, predicted),
    ]
    if ordered:
        found.append(metrics.kappa_from_counts(summed[:, -replicates:], actual, predicted))
    return np.stack([metrics.mean_over(values, ~np.isnan(values)) for values in found], axis=1)


def _mcc(counts: Counts, accuracy: Estimate) -> Estimate:
    actual, predicted, hits = counts.actual.sum(axis=0), counts.predicted.sum(axis=1), counts.hits.sum(axis=1)
    n = float(actual.sum())
    varies, also = (n**2 - (sums.astype(np.float64) ** 2).sum(axis=-1) for sums in (actual, predicted))
    # Where one of them does not vary MCC is 0 / 0; the other gives the scale.
    scale = np.where(also > 0, np.sqrt(varies * also), varies) if varies > 0 else also
    slope = np.divide(n**2, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return _linear(metrics.mcc_from_counts(hits, actual, predicted), slope, accuracy)


def _kappa(counts: Counts) -> Estimate:
    actual, predicted = counts.actual.sum(axis=0), counts.predicted.sum(axis=1)
    n = int(actual.sum())
    values = metrics.kappa_from_counts(counts.distance.sum(axis=1), actual, predicted)
    chance = metrics.chance_distance(actual, predicted) / n
    slopes = np.divide(1.0, chance, out=np.full(chance.shape, np.nan), where=chance > 0)
    of_groups, size = counts.distance.mean(axis=0), counts.actual.sum(axis=1)
    unseen = min(counts.furthest + 1, max(actual.size - 1, 1)) ** 2
    low, high = intervals.weighted_rate(of_groups, size, unseen)
    distance = of_groups.sum() / n
    return _linear(values, -slopes, Estimate(float(distance), float(low), float(high), n))


def _linear(values: FloatArray, slopes: FloatArray, source: Estimate) -> Estimate:
    """The mean of values (S,) that move with another by slopes (S,) of one sign; nan with n = 0 where none is defined."""
    value, slope = (float(metrics.mean_over(each, ~np.isnan(values))) for each in (values, slopes))
    ends = [value + slope * (limit - source.value) for limit in (source.low, source.high)]
    limits = np.clip([min(ends), max(ends)], -1.0, 1.0)
    return Estimate(value, float(limits[0]), float(limits[1]), 0 if np.isnan(value) else source.n)


def _widened(estimate: Estimate, low: ArrayLike, high: ArrayLike) -> Estimate:
    """The wider limit on each side; that of the estimate where the bootstrap has none."""
    lowest, highest = np.fmin(estimate.low, low), np.fmax(estimate.high, high)
    if np.isnan(estimate.value):
        return estimate
    return Estimate(estimate.value, float(lowest), float(highest), estimate.n)
