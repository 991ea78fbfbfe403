"""Evaluate tables of predictions: metrics with 95 % confidence intervals.

Shape legend: S replicates, N images, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray
from tametail.data.class_groups import CLASS_GROUPS, ClassGroupName, class_group_of
from tametail.evaluation.intervals import Estimate, Proportions
from tametail.evaluation.metric_registry import METRICS, estimate_metric
from tametail.evaluation.ranking_metrics import RankedClass, ranking_proportions
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions


@dataclass(frozen=True)
class ClassResult:
    """Metrics of one class against all others.

    For a class without images only specificity and NPV are defined, the latter as 1, and precision and F1 are 0 where it is
    predicted; the other metrics are nan with n = 0.

    Attributes:
        name: the class.
        n: images of the class.
        groups: distinct groups with an image of the class.
        recall: sensitivity; its n counts the images of the class.
        precision: positive predictive value; its n counts the images that at least one replicate predicts as the class.
        npv: negative predictive value; its n counts the images that at least one replicate does not predict as the class.
        f1: its n counts the images of the class; undefined for an absent class, even if it is predicted.
        specificity: its n counts the images of other classes.
        auroc: area under the ROC curve of the class's probability; its n counts all images.
        average_precision: area under the precision-recall curve; its n counts the images of the class.
    """

    name: str
    n: int
    groups: int
    recall: Estimate
    precision: Estimate
    npv: Estimate
    f1: Estimate
    specificity: Estimate
    auroc: Estimate
    average_precision: Estimate


@dataclass(frozen=True)
class Evaluation:
    """Results of one method on one set of images.

    Attributes:
        classes: C results, in the order of the class names.
        balanced_accuracy: mean recall of the classes present.
        macro_f1: mean F1 of the classes present.
        accuracy: proportion of correct images.
        mcc: Matthews correlation over all classes, in -1..1; see `metrics.mcc_from_counts` for degenerate cases.
        kappa: quadratic weighted, in -1..1; None unless the classes are ordinal.
        class_groups: many-, medium- and few-shot classes; empty without training counts.
        confusion: (C, C) images by true class (rows) and predicted class, mean over replicates.
        n: images.
        groups: distinct groups.
        replicates: number of tables that the values are means over.
        additional: by name, metrics registered with `tametail.evaluation.register_metric`.
    """

    classes: tuple[ClassResult, ...]
    balanced_accuracy: Estimate
    macro_f1: Estimate
    accuracy: Estimate
    mcc: Estimate
    kappa: Estimate | None
    class_groups: tuple[ClassGroup, ...]
    confusion: FloatArray
    n: int
    groups: int
    replicates: int
    additional: Mapping[str, Estimate] = field(default_factory=dict)

    def estimate(self, metric: str) -> Estimate:
        """Look up the estimate of a registered metric by name.

        Raises:
            LookupError: no such metric, or one that is not defined for these classes.
        """
        found = self.additional.get(metric, getattr(self, metric, None) if metric in METRICS else None)
        if not isinstance(found, Estimate):
            raise LookupError(f"expected a metric of this evaluation, got {metric!r}")
        return found


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
    - F1: Wilson, on F* = F1 / (2 - F1) = TP / (TP + FP + FN), which is a proportion (Hand, Christen & Kirielle 2021),
      transformed back to F1 (the indirect method of Lam, Gopal & Qian 2023).
    - AUROC and average precision of each class against all others: see `ranking_metrics.ranking_proportions`. The scores
      are `Predictions.probabilities`, which sum to one over the classes.
    - balanced accuracy and mean recall of a class group: see `intervals.mean_of_proportions`; mean F1 of a class group: MOVER.
    - macro F1, MCC, kappa: the group bootstrap, stratified by class, and on each side at least as wide as a closed form
      that keeps its width where no prediction is wrong; see `sample.Sample`.
    - other registered metrics: see `metric_registry.estimate_metric`.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        train_counts: C training images per class, which define the class groups.
        class_order: all classes from the lowest grade to the highest; None or empty unless they are ordinal.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same interval.

    Raises:
        ValueError: no table, no image, tables that differ in images, groups, targets or classes, or training counts
            or an order of other classes.
    """
    sample = Sample(replicates, class_order=class_order or None, resamples=resamples, seed=seed)
    first, class_n = sample.tables[0], sample.class_n
    ranked = (
        RankedClass(first.target == index, [table.class_probabilities(index) for table in sample.tables])
        for index in range(len(class_n))
    )
    auroc, average_precision = ranking_proportions(ranked, sample.group)
    estimates = {
        metric.name: estimate_metric(metric, sample)
        for metric in METRICS
        if class_order or not getattr(metric, "ordinal", False)
    }
    groups_of_class = np.bincount(sample.counts.actual.indices, minlength=len(class_n))
    groups: tuple[ClassGroup, ...] = ()
    if train_counts is not None:
        groups = class_groups(train_counts, sample.recall, sample.f1, class_n)
    return Evaluation(
        classes=tuple(
            ClassResult(
                name=name,
                n=int(class_n[index]),
                groups=int(groups_of_class[index]),
                recall=sample.recall.estimate(index),
                precision=sample.precision.estimate(index),
                npv=sample.npv.estimate(index),
                f1=sample.f1.estimate(index),
                specificity=sample.specificity.estimate(index),
                auroc=auroc.estimate(index),
                average_precision=average_precision.estimate(index),
            )
            for index, name in enumerate(first.class_names)
        ),
        balanced_accuracy=estimates.pop("balanced_accuracy"),
        macro_f1=estimates.pop("macro_f1"),
        accuracy=estimates.pop("accuracy"),
        mcc=estimates.pop("mcc"),
        kappa=estimates.pop("kappa", None),
        class_groups=groups,
        confusion=sample.confusions.mean(axis=0),
        n=len(sample),
        groups=sample.counts.groups,
        replicates=len(sample.tables),
        additional=estimates,
    )


@dataclass(frozen=True)
class ClassGroup:
    """Mean recall and F1 of the many-, medium- or few-shot classes.

    Attributes:
        name: see `tametail.data.class_groups.class_group_of`.
        classes: indices of its classes, including those without an image in the evaluated set.
        recall: mean recall of its classes that are present; its n counts their images.
        f1: mean F1 of the same classes.
    """

    name: ClassGroupName
    classes: tuple[int, ...]
    recall: Estimate
    f1: Estimate


def class_groups(
    class_counts: Sequence[int], recall: Proportions, f1: Proportions, class_n: NDArray[np.int64]
) -> tuple[ClassGroup, ...]:
    """Average recall and F1 over each group that has a class, many-shot classes first; see `class_group_of`.

    The means are nan where no class of a group is present.

    Args:
        class_counts: C training images per class.
        recall, f1: of the C classes.
        class_n: (C,) evaluated images of each class.

    Raises:
        ValueError: not one count per class.
    """
    if len(class_counts) != len(class_n):
        raise ValueError(f"expected training counts of {len(class_n)} classes, got {len(class_counts)}")
    group_of = np.array([class_group_of(int(count)) for count in class_counts])
    found = []
    for name in CLASS_GROUPS:
        member = group_of == name
        present, n = np.asarray(member & (class_n > 0)), int(class_n[member].sum())
        if member.any():
            classes = tuple(np.flatnonzero(member).tolist())
            found.append(ClassGroup(name, classes, recall.mean(present, n), f1.mean(present, n)))
    return tuple(found)
