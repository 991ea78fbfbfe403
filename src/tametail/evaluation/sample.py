"""A set of images with the predictions of one method: counts by group, and the estimates that the metrics share.

Shape legend: S replicates, N images, G groups, C classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.data.class_groups import ClassGroupName, class_groups
from tametail.evaluation import bootstrap, intervals, metrics
from tametail.evaluation.class_order import with_class_order
from tametail.evaluation.intervals import (
    Estimate,
    Proportions,
    complement_proportions,
    defined_mean,
    f1_proportions,
    proportions,
)
from tametail.evaluation.ranking_metrics import RankedClass, ranking_proportions
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions

ASSIGNED_PARTS = 5  # for images without folds


@dataclass(frozen=True, eq=False)
class Counts:
    """Images of each group by true and predicted class, sparse (G, C), as most groups have images of few classes.

    Attributes:
        actual: images of each class.
        predicted: for each replicate, images predicted as each class.
        hits: for each replicate, images of each class that are predicted as it.
        distance: (S, G) sum of the squared distances between true and predicted class, in grades; 0 unless ordinal.
        absolute: (S, G) sum of the distances.
        near: (S, G) images whose distance is at most 1.
        furthest: the largest distance, in grades.
        ever_predicted: (C,) images that at least one replicate predicts as the class.
        always_predicted: (C,) images that all replicates predict as the class.
    """

    actual: sparse.csr_array
    predicted: tuple[sparse.csr_array, ...]
    hits: tuple[sparse.csr_array, ...]
    distance: NDArray[np.int32]
    absolute: NDArray[np.int32]
    near: NDArray[np.int32]
    furthest: int
    ever_predicted: IntArray
    always_predicted: IntArray

    @property
    def groups(self) -> int:
        """G."""
        return int(self.actual.shape[0])

    @cached_property
    def size(self) -> IntArray:
        """(G,) images of each group."""
        return np.asarray(self.actual.sum(axis=1), dtype=np.int64)

    @cached_property
    def mean_predicted(self) -> sparse.csr_array:
        """(G, C) images predicted as each class, mean over the replicates."""
        return _mean(self.predicted)

    @cached_property
    def mean_hits(self) -> sparse.csr_array:
        """(G, C) images of each class that are predicted as it, mean over the replicates."""
        return _mean(self.hits)


class Sample:
    """Predictions of one method for one set of images. Everything is computed on first use, and once.

    Args:
        replicates: S tables over the same images.
        train_counts: C training images per class, which define the class groups; None for no groups.
        class_order: all classes from the lowest grade to the highest; None unless they are ordinal.
        resamples, seed: of the bootstrap.

    Raises:
        ValueError: no table, no image, tables that differ in images, groups, targets or classes, or training counts
            or an order of other classes.
    """

    def __init__(
        self,
        replicates: Sequence[Predictions],
        *,
        train_counts: Sequence[int] | None = None,
        class_order: Sequence[str] | None = None,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.tables = align(replicates)
        self.resamples, self.seed = resamples, seed
        self.class_order = None if class_order is None else tuple(class_order)
        names = self.tables[0].class_names
        self.class_groups = class_groups(train_counts, len(names))
        if self.class_order is not None and sorted(self.class_order) != sorted(names):
            raise ValueError(f"expected an order of the classes {names}, got {self.class_order}")

    def __len__(self) -> int:
        return len(self.tables[0])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C classes, in the order of their indices."""
        return self.tables[0].class_names

    @cached_property
    def group(self) -> IntArray:
        """(N,) codes 0..G-1 of the groups."""
        return group_codes(self.tables[0])

    @cached_property
    def order(self) -> IntArray | None:
        """(C,) class indices from the lowest grade to the highest; None unless the classes are ordinal."""
        names = self.tables[0].class_names
        return (
            None if self.class_order is None else np.array([names.index(name) for name in self.class_order])
        )

    @cached_property
    def ordinal_tables(self) -> list[Predictions]:
        """The tables with their classes from the lowest grade to the highest, as metrics of ordinal classes take them.

        Raises:
            ValueError: the classes are not ordinal.
        """
        if self.class_order is None:
            raise ValueError("expected the order of the classes for a metric of ordinal classes, got none")
        return [with_class_order(table, self.class_order) for table in self.tables]

    @cached_property
    def counts(self) -> Counts:
        """Images of each group by true and predicted class."""
        return _count(self.tables, self.group, self.order)

    @cached_property
    def confusions(self) -> IntArray:
        """(S, C, C) confusion matrices."""
        return np.stack(
            [metrics.confusion_matrix(t.target, t.predicted, len(t.class_names)) for t in self.tables]
        )

    @cached_property
    def class_n(self) -> IntArray:
        """(C,) images of each class."""
        return np.asarray(self.counts.actual.sum(axis=0, dtype=np.int64))

    @property
    def present(self) -> BoolArray:
        """(C,) whether the class has an image."""
        return np.asarray(self.class_n > 0)

    @property
    def strata(self) -> IntArray:
        """(G,) the rarest class of each group: as strata of the bootstrap they keep the number of rare images."""
        actual, by_size = self.counts.actual, np.argsort(self.class_n, kind="stable")
        rank = np.argsort(by_size)[actual.indices]
        return by_size[np.minimum.reduceat(rank, actual.indptr[:-1])]

    @cached_property
    def recall(self) -> Proportions:
        """Recall of each class."""
        value = defined_mean(metrics.recall(self.confusions))
        return proportions(value, self.counts.mean_hits, self.counts.actual, self.class_n)

    @cached_property
    def precision(self) -> Proportions:
        """Precision of each class."""
        value = defined_mean(metrics.precision(self.confusions))
        counts = self.counts
        return proportions(value, counts.mean_hits, counts.mean_predicted, counts.ever_predicted)

    @cached_property
    def npv(self) -> Proportions:
        """Negative predictive value of each class: the share of other classes among images not predicted as it."""
        return self._of_others(predicted=True)

    @cached_property
    def f1(self) -> Proportions:
        """F1 of each class; nan for an absent class."""
        value = np.where(self.class_n > 0, defined_mean(metrics.f1(self.confusions)), np.nan)
        hits, predicted = self.counts.mean_hits, self.counts.mean_predicted
        return f1_proportions(value, hits, self.counts.actual + predicted - hits, self.class_n)

    @cached_property
    def specificity(self) -> Proportions:
        """Specificity of each class."""
        return self._of_others(predicted=False)

    def _of_others(self, *, predicted: bool) -> Proportions:
        """The images of other classes that are predicted as others, among either of the two."""
        value = defined_mean((metrics.npv if predicted else metrics.specificity)(self.confusions))
        counts, times = self.counts, len(self.tables)
        n = len(self) - (counts.always_predicted if predicted else self.class_n)
        # Sums over the replicates: differences of means are not exactly 0 where no image is left.
        actual, given = counts.actual * times, _sum(counts.predicted)
        of_class, either = given if predicted else actual, actual + given - _sum(counts.hits)
        return complement_proportions(value, counts.size * times, of_class, either, n, times=times)

    @property
    def auroc(self) -> Proportions:
        """Area under the ROC curve of each class against all others, by `Predictions.probabilities`."""
        return self._ranking[0]

    @property
    def average_precision(self) -> Proportions:
        """Area under the precision-recall curve of each class against all others."""
        return self._ranking[1]

    @cached_property
    def _ranking(self) -> tuple[Proportions, Proportions]:
        target = self.tables[0].target
        ranked = (
            RankedClass(target == index, [table.class_probabilities(index) for table in self.tables])
            for index in range(len(self.class_names))
        )
        return ranking_proportions(ranked, self.group)

    def class_group_mean(self, of: Proportions, group: ClassGroupName) -> Estimate | None:
        """Mean over the classes of a group that are present, nan if none is; None if the group has no class."""
        member = np.isin(np.arange(len(self.class_n)), self.class_groups.get(group, ()))
        return of.mean(member & self.present, int(self.class_n[member].sum())) if member.any() else None

    @cached_property
    def accuracy(self) -> Estimate:
        """Proportion of correct images, with Wilson limits."""
        hits, size = self.counts.mean_hits.sum(axis=1)[:, None], self.counts.size[:, None]
        value = metrics.accuracy(self.confusions).mean(keepdims=True)
        return proportions(value, hits, size, np.array([len(self)])).estimate(0)

    @property
    def balanced_accuracy(self) -> Estimate:
        """Mean recall of the classes present, see `intervals.mean_of_proportions`."""
        return self.recall.mean(self.present, len(self))

    # The bootstrap has no width where no prediction is wrong, and little where few are. So each of the three intervals
    # below is at least as wide as a closed form that keeps its width there.

    @property
    def macro_f1(self) -> Estimate:
        """Mean F1 of the classes present: at least the MOVER limits."""
        return _widened(self.f1.mean(self.present, len(self)), *self._bootstrap[:, 0])

    @property
    def mcc(self) -> Estimate:
        """Matthews correlation: at least what the limits of the accuracy give.

        With the counts of true and predicted classes fixed, MCC is linear in the accuracy.
        """
        actual, predicted, hits = self._decisions
        n = float(actual.sum())
        varies, also = (n**2 - (sums.astype(np.float64) ** 2).sum(axis=-1) for sums in (actual, predicted))
        # MCC is 0 / 0 where one of them does not vary; the other gives the scale.
        scale = np.where(also > 0, np.sqrt(varies * also), varies) if varies > 0 else also
        slope = np.divide(n**2, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
        values = metrics.mcc_from_counts(hits, actual, predicted)
        return _widened(_linear(values, slope, self.accuracy), *self._bootstrap[:, 1])

    @property
    def kappa(self) -> Estimate:
        """Quadratic weighted kappa of ordinal classes: at least what the limits of the mean squared distance give.

        See `intervals.weighted_rate`: the next mistake may be one class further off than the furthest seen.

        Raises:
            ValueError: the classes are not ordinal.
        """
        if self.order is None:
            raise ValueError("expected the order of the classes for kappa, got none")
        counts, (actual, predicted, _) = self.counts, self._decisions
        actual, predicted = actual[self.order], predicted[:, self.order]
        n = int(actual.sum())
        values = metrics.kappa_from_counts(counts.distance.sum(axis=1), actual, predicted)
        chance = metrics.chance_distance(actual, predicted) / n
        slopes = np.divide(1.0, chance, out=np.full(chance.shape, np.nan), where=chance > 0)
        of_groups, size = counts.distance.mean(axis=0), counts.size
        unseen = min(counts.furthest + 1, max(actual.size - 1, 1)) ** 2
        low, high = intervals.weighted_rate(of_groups, size, unseen)
        distance = Estimate(float(of_groups.sum() / n), float(low), float(high), n)
        return _widened(_linear(values, -slopes, distance), *self._bootstrap[:, 2])

    @property
    def mean_absolute_error(self) -> Estimate:
        """Mean distance of ordinal classes, in grades: at least `intervals.weighted_rate`, as for kappa.

        Raises:
            ValueError: the classes are not ordinal.
        """
        counts = self._ordinal_counts
        of_groups, n = counts.absolute.mean(axis=0), len(self)
        unseen = min(counts.furthest + 1, max(len(self.class_n) - 1, 1))
        low, high = intervals.weighted_rate(of_groups, counts.size, unseen)
        return _widened(
            Estimate(float(of_groups.sum() / n), float(low), float(high), n), *self._bootstrap[:, 3]
        )

    @property
    def off_by_one_accuracy(self) -> Estimate:
        """Proportion of images predicted as their class or one next to it, with Wilson limits.

        Raises:
            ValueError: the classes are not ordinal.
        """
        counts = self._ordinal_counts
        near = counts.near.mean(axis=0)[:, None]
        value = near.sum(axis=0) / len(self)
        return proportions(value, near, counts.size[:, None], np.array([len(self)])).estimate(0)

    @property
    def _ordinal_counts(self) -> Counts:
        if self.order is None:
            raise ValueError("expected the order of the classes for a metric of ordinal classes, got none")
        return self.counts

    @property
    def _decisions(self) -> tuple[IntArray, IntArray, IntArray]:
        """(C,) images of each class, and (S, C) those predicted as it, and correct."""
        predicted, hits = self.confusions.sum(axis=1), np.diagonal(self.confusions, axis1=1, axis2=2)
        return self.class_n, predicted, hits

    @cached_property
    def _bootstrap(self) -> FloatArray:
        """(2, 2 or 4) low and high limits of macro F1, MCC and, for ordinal classes, kappa and mean absolute error."""
        counts = self.counts
        of_groups = [counts.actual, *counts.predicted, *counts.hits]
        if self.order is not None:
            of_groups += [sparse.csr_array(each.T) for each in (counts.absolute, counts.distance)]
        per_group = sparse.hstack(of_groups, format="csr")
        draws = {"resamples": self.resamples, "seed": self.seed}
        return np.stack(bootstrap.group_bootstrap(per_group, self.strata, self._statistics, **draws))

    def _statistics(self, summed: FloatArray) -> FloatArray:
        """(R, 2 or 4) macro F1, MCC, kappa, error of sums (R, C + S C + S C [+ S + S]), means over the replicates."""
        rows, classes, replicates = len(summed), len(self.class_n), len(self.tables)
        decisions = summed[:, : classes * (2 * replicates + 1)].reshape(rows, -1, classes)
        actual, predicted, hits = np.split(decisions, [1, replicates + 1], axis=1)
        f1 = metrics.f1_from_counts(hits, actual, predicted)
        found = [
            metrics.mean_over(f1, np.broadcast_to(actual > 0, f1.shape)),
            metrics.mcc_from_counts(hits, actual, predicted),
        ]
        if self.order is not None:
            graded = (counts[..., self.order] for counts in (actual, predicted))
            found.append(metrics.kappa_from_counts(summed[:, -replicates:], *graded))
            n = actual.sum(axis=-1)
            found.append(summed[:, -2 * replicates : -replicates] / np.where(n > 0, n, np.nan))
        return np.stack([metrics.mean_over(values, ~np.isnan(values)) for values in found], axis=1)


def _count(tables: Sequence[Predictions], group: IntArray, order: IntArray | None) -> Counts:
    target, classes = tables[0].target, len(tables[0].class_names)
    groups, one = int(group.max()) + 1, np.ones(len(target), dtype=np.int32)

    def by_group(category: IntArray, chosen: BoolArray | slice = slice(None)) -> sparse.csr_array:
        return sparse.csr_array((one[chosen], (group[chosen], category[chosen])), shape=(groups, classes))

    given = [table.predicted for table in tables]
    distance, absolute, near = np.zeros((3, len(tables), groups), dtype=np.int32)
    furthest = 0
    if order is not None:
        grade = np.argsort(order)
        for replicate, of_table in enumerate(given):
            apart = np.abs(grade[of_table] - grade[target])
            furthest = max(furthest, int(apart.max()))
            distance[replicate] = np.bincount(group, weights=apart**2, minlength=groups)
            absolute[replicate] = np.bincount(group, weights=apart, minlength=groups)
            near[replicate] = np.bincount(group, weights=apart <= 1, minlength=groups)
    # Each class once for an image, however many replicates predict it.
    ordered = np.sort(given, axis=0)
    first = np.concatenate([ordered[:1] >= 0, ordered[1:] != ordered[:-1]])
    return Counts(
        by_group(target),
        tuple(by_group(of_table) for of_table in given),
        tuple(by_group(target, of_table == target) for of_table in given),
        distance,
        absolute,
        near,
        furthest,
        np.bincount(ordered[first], minlength=classes),
        np.bincount(ordered[0][ordered[0] == ordered[-1]], minlength=classes),
    )


def _sum(replicates: Sequence[sparse.csr_array]) -> sparse.csr_array:
    return sparse.csr_array(sum(replicates[1:], replicates[0]))


def _mean(replicates: Sequence[sparse.csr_array]) -> sparse.csr_array:
    # Integers are added before the division, so that equal means are equal numbers.
    return sparse.csr_array(_sum(replicates) / len(replicates))


def _linear(values: FloatArray, slopes: FloatArray, source: Estimate) -> Estimate:
    """Mean of values (S,) that are linear in ``source`` with slopes (S,) of one sign; nan with n = 0 if undefined."""
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


def align(replicates: Sequence[Predictions]) -> list[Predictions]:
    """Sort the tables by image and check that they are about the same images.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes.
    """
    if not replicates or not len(replicates[0]):
        raise ValueError("expected at least one table of predictions with at least one image, got none")
    # Sorting text takes longer than most metrics; tables of a study are sorted already.
    tables = [
        table if (table.image[:-1] < table.image[1:]).all() else table.sorted_by_image()
        for table in replicates
    ]
    first = tables[0]
    for index, table in enumerate(tables[1:], start=1):
        if table.class_names != first.class_names:
            raise ValueError(
                f"expected classes {first.class_names}, got {table.class_names} in table {index}"
            )
        for name in ("image", "group", "target"):
            if not np.array_equal(getattr(table, name), getattr(first, name)):
                raise ValueError(f"expected the same {name} column in every table, table {index} differs")
    return tables


def assigned_parts(group: IntArray, first: BoolArray) -> IntArray:
    """One of five parts (N,) for each image: whole groups, at random, those with an image of ``first`` (N,) evenly."""
    holds = np.bincount(group, first) > 0
    drawn = np.random.default_rng(0).permutation(len(holds))  # the order of names may be informative
    dealt = np.empty(len(holds), dtype=np.int64)
    dealt[drawn[np.argsort(~holds[drawn], kind="stable")]] = np.arange(len(holds)) % ASSIGNED_PARTS
    return np.asarray(dealt[group])


def cross_fitting_parts(table: Predictions, fewest: int) -> IntArray:
    """The folds (N,) if there are at least so many, else parts of whole groups, those with the rarest class evenly."""
    if len(np.unique(table.fold)) >= fewest:
        return table.fold
    counts = np.bincount(table.target, minlength=len(table.class_names))
    rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    return assigned_parts(group_codes(table), table.target == rarest)


def group_codes(table: Predictions | LabelPredictions) -> NDArray[np.int64]:
    """Codes (N,) 0..G-1 of the groups."""
    return np.asarray(np.unique(table.group, return_inverse=True)[1], dtype=np.int64)
