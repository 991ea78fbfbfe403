"""A set of images that may have several labels with the predictions of one method: the estimates that the metrics share.

The metrics of a label that no image has, or all images have, are nan, never 0. Unknown labels are in no metric.
Shape legend: S replicates, N images, G groups, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.data.class_groups import ClassGroupName, class_groups
from tametail.evaluation import metrics
from tametail.evaluation.intervals import (
    Estimate,
    Proportions,
    defined_mean,
    f1_proportions,
    proportions,
    sums_by_group,
)
from tametail.evaluation.label_thresholds import DEFAULT_THRESHOLD, out_of_fold_thresholds
from tametail.evaluation.ranking_metrics import RankedClass, ranking_proportions
from tametail.predictions.multi_label import LabelPredictions, check_same_images


@dataclass(frozen=True)
class Decisions:
    """Metrics of decisions at thresholds. Of a label without a positive image only specificity and NPV are defined.

    Attributes:
        recall, specificity, precision, npv, f1: of the C labels; n counts the positives, the negatives, the images for which
            any replicate predicts the label, those for which any does not, and the positives.
        macro_f1: mean F1 of the labels that an image has.
        micro_f1: F1 of all decisions (image, label) together.
        subset_accuracy: proportion of images with all known labels correct.
        hamming_loss: proportion of decisions (image, label) that are wrong.
    """

    recall: Proportions
    specificity: Proportions
    precision: Proportions
    npv: Proportions
    f1: Proportions
    macro_f1: Estimate
    micro_f1: Estimate
    subset_accuracy: Estimate
    hamming_loss: Estimate


class LabelSample:
    """Predictions of one method for one set of images. Everything is computed on first use, and once.

    Args:
        replicates: S tables over the same images.
        thresholds: (C,) chosen on other images; None to choose them for each fold on the other folds.
        train_counts: C training images with each label, which define the many-, medium- and few-shot labels.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, labels or classes, or training counts of other
            labels.
    """

    def __init__(
        self,
        replicates: Sequence[LabelPredictions],
        thresholds: ArrayLike | None = None,
        train_counts: Sequence[int] | None = None,
    ) -> None:
        self.tables = check_same_images([table.sorted_by_image() for table in replicates])
        self.table = self.tables[0]
        if not len(self.table):
            raise ValueError("expected predictions of at least one image, got none")
        self.group = np.unique(self.table.group, return_inverse=True)[1].astype(np.int64)
        self.positives: IntArray = self.table.labels.sum(axis=0)
        self.negatives: IntArray = (~self.table.labels & self.table.known).sum(axis=0)
        self._thresholds = thresholds
        self.class_groups = class_groups(train_counts, len(self.class_names))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C labels."""
        return self.table.class_names

    @cached_property
    def chosen(self) -> Decisions:
        """At thresholds that maximise F1 on other images."""
        given = self._thresholds
        decided = [t.decided(out_of_fold_thresholds(t) if given is None else given) for t in self.tables]
        return _decisions(self.table, decided, self.group)

    @cached_property
    def plain(self) -> Decisions:
        """At thresholds of 0.5."""
        return _decisions(self.table, [t.decided(DEFAULT_THRESHOLD) for t in self.tables], self.group)

    @property
    def recall(self) -> Proportions:
        """Of each label at its chosen threshold, like the following."""
        return self.chosen.recall

    @property
    def specificity(self) -> Proportions:
        return self.chosen.specificity

    @property
    def precision(self) -> Proportions:
        return self.chosen.precision

    @property
    def npv(self) -> Proportions:
        return self.chosen.npv

    @property
    def f1(self) -> Proportions:
        return self.chosen.f1

    @property
    def macro_f1(self) -> Estimate:
        return self.chosen.macro_f1

    @property
    def auroc(self) -> Proportions:
        """Area under the ROC curve of each label; 0.5 is chance."""
        return self._ranking[0]

    @property
    def average_precision(self) -> Proportions:
        """Area under the precision-recall curve of each label; its prevalence is chance."""
        return self._ranking[1]

    @property
    def macro_auroc(self) -> Estimate:
        """Mean over the labels with positive and negative images."""
        return self.auroc.mean(self._both, len(self))

    @property
    def mean_average_precision(self) -> Estimate:
        """Mean over the same labels (mAP)."""
        return self.average_precision.mean(self._both, len(self))

    def class_group_mean(self, of: Proportions, group: ClassGroupName) -> Estimate | None:
        """Mean over the labels of a group with positive and negative images, nan if none has; None if the group is empty."""
        member = np.isin(np.arange(len(self.positives)), self.class_groups.get(group, ()))
        return of.mean(member & self._both, int(self.positives[member].sum())) if member.any() else None

    @property
    def _both(self) -> NDArray[np.bool_]:
        return (self.positives > 0) & (self.negatives > 0)

    @cached_property
    def _ranking(self) -> tuple[Proportions, Proportions]:
        first = self.table
        ranked = (
            RankedClass(first.labels[:, c], [table.logits[:, c] for table in self.tables], first.known[:, c])
            for c in range(len(self.class_names))
        )
        return ranking_proportions(ranked, self.group, for_means=True)


def _decisions(table: LabelPredictions, decided: Sequence[NDArray[np.bool_]], group: IntArray) -> Decisions:
    labels, known = table.labels, table.known
    given = np.stack(decided) & known  # (S, N, C)
    right = (given == labels) | ~known
    absent = ~labels & known
    actual, mean = sums_by_group(labels, group), sums_by_group(given.mean(axis=0), group)
    hits = sums_by_group((given & labels).mean(axis=0), group)
    positives, rows = labels.sum(axis=0), len(labels)
    decisions = sums_by_group(known.sum(axis=1)[:, None], group)
    present = np.asarray(positives > 0)

    def mean_share(found: NDArray[np.bool_], among: NDArray[np.bool_]) -> FloatArray:
        """Mean (C,) over the replicates of the proportion of ``found`` (S, N, C) ``among`` (S, N, C) or (N, C)."""
        trials = np.broadcast_to(among, found.shape).sum(axis=1)
        ratio = (found & among).sum(axis=1) / np.maximum(trials, 1)
        return defined_mean(np.where(trials > 0, ratio, np.nan))

    recall = proportions(mean_share(given, labels), hits, actual, positives)
    specificity = proportions(
        mean_share(~given, absent),
        sums_by_group((~given & absent).mean(axis=0), group),
        sums_by_group(absent, group),
        absent.sum(axis=0),
    )
    found = np.where(present, mean_share(np.broadcast_to(labels, given.shape), given), np.nan)
    precision = proportions(found, hits, mean, given.any(axis=0).sum(axis=0))
    counts = [(given & labels).sum(axis=1), np.broadcast_to(positives, given.shape[::2]), given.sum(axis=1)]
    npv = proportions(
        mean_share(np.broadcast_to(absent, given.shape), ~given & known),
        sums_by_group((~given & absent).mean(axis=0), group),
        sums_by_group((~given & known).mean(axis=0), group),
        (~given & known).any(axis=0).sum(axis=0),
    )
    by_label = np.where(present, metrics.f1_from_counts(*counts).mean(axis=0), np.nan)
    f1 = f1_proportions(by_label, hits, actual + mean - hits, positives)
    micro = defined_mean(metrics.f1_from_counts(*(count.sum(axis=1) for count in counts))[:, None])
    union = (actual + mean - hits).sum(axis=1, keepdims=True)
    size = np.bincount(group)[:, None]
    subset, wrong = right.all(axis=2).mean(axis=0)[:, None], (~right).mean(axis=0).sum(axis=1)[:, None]
    return Decisions(
        recall=recall,
        specificity=specificity,
        precision=precision,
        npv=npv,
        f1=f1,
        macro_f1=f1.mean(present, rows),
        micro_f1=f1_proportions(micro, hits.sum(axis=1, keepdims=True), union, np.array([rows])).estimate(0),
        subset_accuracy=_pooled(sums_by_group(subset, group), size, rows),
        hamming_loss=_pooled(sums_by_group(wrong, group), decisions, rows),
    )


def _pooled(hits: FloatArray, trials: IntArray | FloatArray, n: int) -> Estimate:
    """Share of all hits (G, 1) among all trials (G, 1)."""
    return proportions(hits.sum(axis=0) / trials.sum(), hits, trials, np.array([n])).estimate(0)
