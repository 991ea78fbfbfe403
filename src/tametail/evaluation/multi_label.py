"""Evaluate multi-label predictions: metrics with 95 % intervals, per label and over all labels.

The metrics of a label that no image has, or all images have, are nan, never 0. Unknown labels are in no metric.
Shape legend: S replicates, N images, G groups, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import metrics
from tametail.evaluation.intervals import Estimate, defined_mean, f1_proportions, proportions, sums_by_group
from tametail.evaluation.ranking_metrics import RankedClass, average_precision, ranking_proportions
from tametail.predictions.multi_label import LabelPredictions, check_same_images

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class ThresholdedLabel:
    """Metrics of one label at a threshold. Without a positive image only the specificity is defined.

    Attributes:
        recall: sensitivity; its n counts the positives.
        specificity: its n counts the negatives.
        precision: its n counts the images for which any replicate predicts the label.
        f1: its n counts the positives.
    """

    recall: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate


@dataclass(frozen=True)
class ThresholdedMetrics:
    """Metrics of all labels at their thresholds.

    Attributes:
        labels: C results.
        macro_f1: mean F1 of the labels that an image has.
        micro_f1: F1 of all decisions (image, label) together.
        subset_accuracy: proportion of images with all known labels correct.
        hamming_loss: proportion of decisions (image, label) that are wrong.
    """

    labels: tuple[ThresholdedLabel, ...]
    macro_f1: Estimate
    micro_f1: Estimate
    subset_accuracy: Estimate
    hamming_loss: Estimate


@dataclass(frozen=True)
class LabelResult:
    """Ranking metrics of one label, independent of the threshold.

    Attributes:
        name: the label.
        positives, negatives: images that are known to have the label, and not to have it.
        groups: distinct groups with a positive image.
        auroc: area under the ROC curve; 0.5 is chance.
        average_precision: area under the precision-recall curve; ``positives`` / n is chance.
    """

    name: str
    positives: int
    negatives: int
    groups: int
    auroc: Estimate
    average_precision: Estimate

    @property
    def prevalence(self) -> float:
        """Share of positives among the images of which the label is known; nan without such an image."""
        known = self.positives + self.negatives
        return self.positives / known if known else float("nan")

    @property
    def absent(self) -> bool:
        """No image has the label."""
        return self.positives == 0


@dataclass(frozen=True)
class LabelEvaluation:
    """Results of one method on one set of images that may have several labels.

    Attributes:
        labels: C results, in the order of the class names.
        average_precision: mean over the labels with positive and negative images (mAP).
        auroc: mean over the same labels (macro AUROC).
        chosen: at thresholds that maximise F1 on other images.
        plain: at 0.5.
        n: images.
        groups: distinct groups.
        replicates: number of tables that the values are means over.
    """

    labels: tuple[LabelResult, ...]
    average_precision: Estimate
    auroc: Estimate
    chosen: ThresholdedMetrics
    plain: ThresholdedMetrics
    n: int
    groups: int
    replicates: int


def evaluate_labels(
    replicates: Sequence[LabelPredictions], thresholds: ArrayLike | None = None
) -> LabelEvaluation:
    """Evaluate one or several sets of predictions for the same images.

    Values are means over the replicates, and intervals describe sampling of images, as in `evaluate`; means over labels
    have MOVER intervals. Ranking metrics use the logits, as saturated probabilities are tied; thresholds apply to
    probabilities, and intervals regard them as fixed.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        thresholds: (C,) chosen on other images; None to choose them for each fold on the other folds.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, labels or classes.
    """
    tables = check_same_images([table.sorted_by_image() for table in replicates])
    first = tables[0]
    if not len(first):
        raise ValueError("expected predictions of at least one image, got none")
    group = np.unique(first.group, return_inverse=True)[1].astype(np.int64)
    positives = first.labels.sum(axis=0)
    negatives = (~first.labels & first.known).sum(axis=0)
    both = (positives > 0) & (negatives > 0)
    ranked = (
        RankedClass(first.labels[:, c], [table.logits[:, c] for table in tables], first.known[:, c])
        for c in range(len(first.class_names))
    )
    auroc, precision = ranking_proportions(ranked, group, for_means=True)
    chosen = [t.decided(out_of_fold_thresholds(t) if thresholds is None else thresholds) for t in tables]
    return LabelEvaluation(
        labels=tuple(
            LabelResult(
                name,
                int(positives[c]),
                int(negatives[c]),
                len(np.unique(group[first.labels[:, c]])),
                auroc.estimate(c),
                precision.estimate(c),
            )
            for c, name in enumerate(first.class_names)
        ),
        average_precision=precision.mean(both, len(first)),
        auroc=auroc.mean(both, len(first)),
        chosen=_decisions(first, chosen, group),
        plain=_decisions(first, [table.decided(DEFAULT_THRESHOLD) for table in tables], group),
        n=len(first),
        groups=int(group.max()) + 1,
        replicates=len(tables),
    )


def macro_average_precision(table: LabelPredictions) -> float:
    """Mean average precision of the labels with positive and negative images; nan if there is none."""
    columns = zip(table.labels.T, table.logits.T, table.known.T, strict=True)
    values = [average_precision(label[known], logit[known]) for label, logit, known in columns]
    return float(metrics.mean_over(np.array(values), ~np.isnan(values)))


def _decisions(
    table: LabelPredictions, decided: Sequence[NDArray[np.bool_]], group: IntArray
) -> ThresholdedMetrics:
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
    by_label = np.where(present, metrics.f1_from_counts(*counts).mean(axis=0), np.nan)
    f1 = f1_proportions(by_label, hits, actual + mean - hits, positives)
    micro = defined_mean(metrics.f1_from_counts(*(count.sum(axis=1) for count in counts))[:, None])
    union = (actual + mean - hits).sum(axis=1, keepdims=True)
    size = np.bincount(group)[:, None]
    subset, wrong = right.all(axis=2).mean(axis=0)[:, None], (~right).mean(axis=0).sum(axis=1)[:, None]
    return ThresholdedMetrics(
        labels=tuple(
            ThresholdedLabel(*(part.estimate(c) for part in (recall, specificity, precision, f1)))
            for c in range(labels.shape[1])
        ),
        macro_f1=f1.mean(present, rows),
        micro_f1=f1_proportions(micro, hits.sum(axis=1, keepdims=True), union, np.array([rows])).estimate(0),
        subset_accuracy=_pooled(sums_by_group(subset, group), size, rows),
        hamming_loss=_pooled(sums_by_group(wrong, group), decisions, rows),
    )


def _pooled(hits: FloatArray, trials: IntArray | FloatArray, n: int) -> Estimate:
    """Share of all hits (G, 1) among all trials (G, 1)."""
    return proportions(hits.sum(axis=0) / trials.sum(), hits, trials, np.array([n])).estimate(0)


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
