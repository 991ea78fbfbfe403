"""Evaluate tables of predictions: metrics with 95 % confidence intervals.

Shape legend: S replicates, N images, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tametail.core.arrays import FloatArray
from tametail.data.class_groups import ClassGroupName
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.label_sample import LabelSample
from tametail.evaluation.metric_registry import (
    METRICS,
    AnySample,
    MetricFacts,
    estimate_metrics,
    metric_facts,
)
from tametail.evaluation.sample import Sample
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions

BALANCED_ACCURACY, MEAN_AVERAGE_PRECISION = "balanced_accuracy", "mean_average_precision"


@dataclass(frozen=True)
class ClassSize:
    """Images of a class or label.

    Attributes:
        name: the class.
        n: images of the class.
        others: images that are not of the class; those of which it is not known count for neither.
        groups: distinct groups with an image of the class.
    """

    name: str
    n: int
    others: int
    groups: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of one method on one set of images.

    Attributes:
        classes: C sizes, in the order of the class names.
        estimates: by the name of a registered metric and of a class, ``""`` for all classes, in the order of the registry.
            Metrics that are not defined for these predictions are absent.
        class_groups: indices of the many-, medium- and few-shot classes; empty without training counts.
        confusion: (C, C) images by true class (rows) and predicted class, mean over replicates; None for several labels.
        n: images.
        groups: distinct groups.
        replicates: number of tables that the values are means over.
        multi_label: whether an image may have several labels.
    """

    classes: tuple[ClassSize, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    class_groups: Mapping[ClassGroupName, tuple[int, ...]]
    confusion: FloatArray | None
    n: int
    groups: int
    replicates: int
    multi_label: bool = False

    def __getitem__(self, metric: str | tuple[str, str]) -> Estimate:
        """The estimate of a metric by name, or by its name and that of a class.

        Raises:
            KeyError: no such metric, or one that is not defined for these predictions.
        """
        return self.estimates[(metric, "") if isinstance(metric, str) else metric]

    def __iter__(self) -> Iterator[tuple[MetricFacts, str, Estimate]]:
        """Metric, class (``""`` for all) and estimate, in the order of the registry."""
        return ((metric_facts(name), of, found) for (name, of), found in self.estimates.items())

    def overall(self) -> list[tuple[MetricFacts, Estimate]]:
        """The metrics over all classes."""
        return [(metric, found) for metric, of, found in self if not of]

    def by_class(self, metric: str) -> list[Estimate]:
        """A metric of each class."""
        return [self[metric, one.name] for one in self.classes]

    @property
    def class_group_recall(self) -> dict[str, Estimate]:
        """Mean recall of the many-, medium- and few-shot classes, those that there are."""
        return {group: self[f"recall_{group}"] for group in self.class_groups}

    @property
    def headline(self) -> str:
        """Name of the metric that ranks methods."""
        return headline(multi_label=self.multi_label)

    @property
    def score(self) -> Estimate:
        """The metric that ranks methods."""
        return self[self.headline]


def headline(*, multi_label: bool) -> str:
    """Name of the metric that ranks methods: balanced accuracy, or mean average precision where images have several labels.

    AUROC is insensitive to false positives of rare labels, as their negatives are so many; average precision is not.
    The challenge on long-tailed chest X-rays also ranks by it (Holste et al. 2024).
    """
    return MEAN_AVERAGE_PRECISION if multi_label else BALANCED_ACCURACY


def class_metric_names(*, multi_label: bool) -> list[str]:
    """Names of the metrics of a class, in the order of the registry."""
    found = [metric for metric in METRICS if getattr(metric, "by_class", False)]
    return [one.name for one in found if getattr(one, "multi_label" if multi_label else "single_label")]


def evaluate(
    replicates: Sequence[Predictions],
    *,
    train_counts: Sequence[int] | None = None,
    class_order: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate one or several sets of predictions for the same images.

    Values are means over the replicates for which they are defined. The intervals describe sampling of images, not of
    training seeds: the correctness of an image is averaged over replicates first, n stays the number of images
    whatever the number of replicates, and images of one group (patient, lesion) count as clustered.

    - recall, specificity, precision, NPV, accuracy: Wilson intervals with the effective sample size of clustered data.
      n of recall counts the images of the class, of specificity those of other classes, of precision (NPV) those that at
      least one replicate predicts (does not predict) as the class.
    - F1: Wilson, on F* = F1 / (2 - F1) = TP / (TP + FP + FN), which is a proportion (Hand, Christen & Kirielle 2021),
      transformed back to F1 (the indirect method of Lam, Gopal & Qian 2023); n counts the images of the class.
    - AUROC and average precision of each class against all others: see `ranking_metrics.ranking_proportions`. The scores
      are `Predictions.probabilities`, which sum to one over the classes. n counts all images, and those of the class.
    - balanced accuracy and mean recall of a class group: see `intervals.mean_of_proportions`; mean F1 of a class group: MOVER.
    - macro F1, MCC, kappa: the group bootstrap, stratified by class, and on each side at least as wide as a closed form
      that keeps its width where no prediction is wrong; see `sample.Sample`.
    - other registered metrics: see `metric_registry.estimate_metric`.

    For a class without images only specificity and NPV are defined, and precision is 0 where it is predicted; the other
    metrics are nan with n = 0.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        train_counts: C training images per class, which define the class groups.
        class_order: all classes from the lowest grade to the highest; None or empty unless they are ordinal.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same interval.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes, or training counts
            or an order of other classes.
    """
    sample = Sample(
        replicates,
        train_counts=train_counts,
        class_order=class_order or None,
        resamples=resamples,
        seed=seed,
    )
    groups = np.bincount(sample.counts.actual.indices, minlength=len(sample.class_names)).tolist()
    others = (len(sample) - sample.class_n).tolist()
    classes = zip(sample.class_names, sample.class_n.tolist(), others, groups, strict=True)
    return _evaluation(sample, [ClassSize(*one) for one in classes], sample.confusions.mean(axis=0))


def evaluate_labels(
    replicates: Sequence[LabelPredictions],
    thresholds: ArrayLike | None = None,
    *,
    train_counts: Sequence[int] | None = None,
) -> Evaluation:
    """Evaluate one or several sets of predictions for the same images, which may have several labels.

    Values are means over the replicates, and intervals describe sampling of images, as in `evaluate`; means over labels
    have MOVER intervals. Ranking metrics use the logits, as saturated probabilities are tied; thresholds apply to
    probabilities, and intervals regard them as fixed. The metrics of a label that no image has, or all images have, are
    nan, never 0. Unknown labels are in no metric.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        thresholds: (C,) chosen on other images; None to choose them for each fold on the other folds.
        train_counts: C training images with each label, which define the many-, medium- and few-shot labels.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, labels or classes, or training counts of other
            labels.
    """
    sample = LabelSample(replicates, thresholds, train_counts)
    labels = sample.table.labels.T
    classes = zip(
        sample.class_names, sample.positives.tolist(), sample.negatives.tolist(), labels, strict=True
    )
    sizes = [ClassSize(name, n, others, len(np.unique(sample.group[of]))) for name, n, others, of in classes]
    return _evaluation(sample, sizes, None)


def _evaluation(sample: AnySample, classes: Sequence[ClassSize], confusion: FloatArray | None) -> Evaluation:
    return Evaluation(
        tuple(classes),
        estimate_metrics(sample),
        sample.class_groups,
        confusion,
        len(sample),
        int(sample.group.max()) + 1,
        len(sample.tables),
        isinstance(sample, LabelSample),
    )
