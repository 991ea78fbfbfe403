"""From tables of predictions to estimates with 95 % intervals.

Shape legend: S replicates, N images, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.evaluation import intervals, metrics
from tametail.evaluation.alignment import aligned
from tametail.predictions import Predictions

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A value in 0..1 with its 95 % interval and the number of images behind it; nan where undefined."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ClassResult:
    """How well one class is told from the others.

    Attributes:
        name: the class.
        n: images of the class.
        groups: distinct groups with an image of the class.
        recall: per-class accuracy; its n is that of the class.
        precision: its n counts the images that at least one replicate predicts as the class.
        f1: its n is that of the class; 0 with n = 0 for an absent class that is predicted.
    """

    name: str
    n: int
    groups: int
    recall: Estimate
    precision: Estimate
    f1: Estimate


@dataclass(frozen=True)
class Evaluation:
    """Results of one loss on one set of images.

    Attributes:
        classes: C results, in the order of the class names.
        balanced_accuracy: mean recall of the classes present.
        macro_f1: mean F1 of the classes present.
        accuracy: share of images predicted right.
        confusion: (C, C) images by true class (rows) and predicted class, mean over replicates.
        n: images.
        groups: distinct groups.
        replicates: tables the values are means over.
    """

    classes: tuple[ClassResult, ...]
    balanced_accuracy: Estimate
    macro_f1: Estimate
    accuracy: Estimate
    confusion: FloatArray
    n: int
    groups: int
    replicates: int


def evaluate(replicates: Sequence[Predictions], *, resamples: int = 2000, seed: int = 0) -> Evaluation:
    """Evaluate predictions that were made for the same images once or several times.

    Values are means over the replicates (those where the value is defined). The intervals speak of the
    images, not of the training seeds: they tell how far the values may be off because these images were
    drawn and not others. So the correctness of an image is averaged over replicates first, n stays the
    number of images however many replicates there are, and images of one group count as alike.

    - recall, precision, accuracy: Wilson intervals with the effective sample size of clustered data. For
      precision these beat the bootstrap, which has no width where the few images predicted as a rare
      class are all right, or all wrong.
    - F1: for the same reason Wilson too, on F* = F1 / (2 - F1) = TP / (TP + FP + FN), which is a
      proportion (Hand, Christen & Kirielle 2021), carried back to F1 (the indirect method of Lam, Gopal &
      Qian 2023).
    - balanced accuracy: MOVER from the recalls.
    - macro F1: on each side the wider of MOVER from the F1s and the stratified group bootstrap. The first
      linearises; the second follows any skew, but is too narrow where rare classes are near 0 or 1.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same interval.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes.
    """
    tables = aligned(replicates)
    counts = _count(tables)
    classes, n = len(tables[0].class_names), len(tables[0])
    confusions = np.stack([metrics.confusion_matrix(t.target, t.predicted, classes) for t in tables])
    hits, predicted = counts.hits.mean(axis=0), counts.predicted.mean(axis=0)
    class_n = counts.actual.sum(axis=0)
    present = np.asarray(class_n > 0)

    recall = shares(defined_mean(metrics.recall(confusions)), hits, counts.actual, class_n)
    precision = shares(defined_mean(metrics.precision(confusions)), hits, predicted, counts.ever_predicted)
    union = counts.actual + predicted - hits
    f1 = f1_shares(defined_mean(metrics.f1(confusions)), hits, union, class_n)
    right = shares(
        metrics.accuracy(confusions).mean(keepdims=True),
        hits.sum(axis=1, keepdims=True),
        counts.actual.sum(axis=1, keepdims=True),
        np.array([n]),
    )
    return Evaluation(
        classes=tuple(
            ClassResult(
                name=name,
                n=int(class_n[index]),
                groups=int(np.count_nonzero(counts.actual[:, index])),
                recall=recall.estimate(index),
                precision=precision.estimate(index),
                f1=f1.estimate(index),
            )
            for index, name in enumerate(tables[0].class_names)
        ),
        balanced_accuracy=recall.mean(present, n),
        macro_f1=_widened(f1.mean(present, n), _bootstrap_macro_f1(counts, resamples, seed)),
        accuracy=right.estimate(0),
        confusion=confusions.mean(axis=0),
        n=n,
        groups=len(counts.actual),
        replicates=len(tables),
    )


@dataclass(frozen=True)
class _Counts:
    """Images per group and class: ``actual`` (G, C); ``predicted`` and ``hits`` (S, G, C).

    ``ever_predicted`` (C,) counts the images that at least one replicate predicts as the class.
    """

    actual: IntArray
    predicted: IntArray
    hits: IntArray
    ever_predicted: IntArray


@dataclass(frozen=True)
class Shares:
    """K values with their limits (K,), images behind each (K,) and group residuals (G, K)."""

    value: FloatArray
    low: FloatArray
    high: FloatArray
    n: IntArray
    residuals: FloatArray

    def estimate(self, index: int) -> Estimate:
        value, low, high = float(self.value[index]), float(self.low[index]), float(self.high[index])
        return Estimate(value, low, high, int(self.n[index]))

    def mean(self, present: NDArray[np.bool_], n: int) -> Estimate:
        value, residuals = self.value[present], self.residuals[:, present]
        low, high = intervals.mover_mean(value, self.low[present], self.high[present], residuals)
        return Estimate(float(value.mean()), float(low), float(high), n)


def shares(value: FloatArray, hits: ArrayLike, trials: ArrayLike, n: IntArray) -> Shares:
    """Shares ``value`` (K,) of hits (G, K) among trials (G, K), with Wilson limits for clustered data."""
    low, high = intervals.wilson(value, intervals.effective_sample_size(hits, trials))
    return Shares(value, low, high, n, intervals.group_residuals(hits, trials))


def f1_shares(value: FloatArray, hits: ArrayLike, union: ArrayLike, n: IntArray) -> Shares:
    """The same for F1, by way of the share F* = F1 / (2 - F1) of hits among TP + FP + FN."""
    of_union = shares(value / (2 - value), hits, union, n)
    low, high = (2 * limit / (1 + limit) for limit in (of_union.low, of_union.high))
    return Shares(value, np.minimum(low, value), np.maximum(high, value), n, of_union.residuals)


def _bootstrap_macro_f1(counts: _Counts, resamples: int, seed: int) -> tuple[float, float]:
    # A group of several classes goes with its rarest, so that the tail is what keeps its size.
    size = np.where(counts.actual > 0, counts.actual.sum(axis=0), np.iinfo(np.int64).max)
    per_group = np.concatenate([counts.actual[None], counts.predicted, counts.hits]).swapaxes(0, 1)

    def macro_f1(summed: FloatArray) -> FloatArray:
        actual = summed[:, :1]
        predicted, hits = np.split(summed[:, 1:], 2, axis=1)
        f1 = metrics.f1_from_counts(hits, actual, predicted)
        return np.asarray(metrics.mean_over(f1, np.broadcast_to(actual > 0, f1.shape)).mean(axis=1))

    strata = size.argmin(axis=1)
    return intervals.group_bootstrap(per_group, strata, macro_f1, resamples=resamples, seed=seed)


def _widened(estimate: Estimate, limits: tuple[float, float]) -> Estimate:
    low, high = min(estimate.low, limits[0]), max(estimate.high, limits[1])
    return Estimate(estimate.value, low, high, estimate.n)


def defined_mean(values: FloatArray) -> FloatArray:
    """Mean over the first axis of what is not nan; nan where nothing is."""
    return metrics.mean_over(values.T, ~np.isnan(values.T))


def _count(tables: list[Predictions]) -> _Counts:
    target, classes = tables[0].target, len(tables[0].class_names)
    names, codes = np.unique(tables[0].group, return_inverse=True)
    shape = (len(names), classes)

    def by_group(category: IntArray, chosen: NDArray[np.bool_] | slice = slice(None)) -> IntArray:
        cells = (codes * classes + category)[chosen]
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

    ever = np.zeros((len(target), classes), dtype=np.bool_)
    for table in tables:
        ever[np.arange(len(target)), table.predicted] = True
    return _Counts(
        actual=by_group(target),
        predicted=np.stack([by_group(table.predicted) for table in tables]),
        hits=np.stack([by_group(target, table.predicted == target) for table in tables]),
        ever_predicted=ever.sum(axis=0),
    )
