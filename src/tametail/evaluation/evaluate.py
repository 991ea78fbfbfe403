"""From tables of predictions to estimates with 95 % intervals.

Shape legend: S replicates, N images, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import metrics
from tametail.evaluation.alignment import aligned, group_codes
from tametail.evaluation.class_groups import ClassGroup, class_groups
from tametail.evaluation.counts import Counts, count
from tametail.evaluation.overall import overall
from tametail.evaluation.proportions import Estimate, Proportions, defined_mean, f1_proportions, proportions
from tametail.evaluation.rank import rank_shares
from tametail.predictions.single_label import Predictions


@dataclass(frozen=True)
class ClassResult:
    """How well one class is told from the others.

    Of a class that no image has, only the specificity is known, and, where it is predicted, that its precision and F1
    are 0; the rest is nan with n = 0.

    Attributes:
        name: the class.
        n: images of the class.
        groups: distinct groups with an image of the class.
        recall: per-class accuracy; its n is that of the class.
        precision: its n counts the images that at least one replicate predicts as the class.
        f1: its n is that of the class; undefined for an absent class, also where some image is predicted as it.
        specificity: share of the images of other classes that are not predicted as the class; its n counts them.
        auroc: chance that an image of the class is given a higher probability of it than one of another; its n counts
            all images.
        average_precision: area under the precision-recall curve of that probability; its n is that of the class.
    """

    name: str
    n: int
    groups: int
    recall: Estimate
    precision: Estimate
    f1: Estimate
    specificity: Estimate
    auroc: Estimate
    average_precision: Estimate


@dataclass(frozen=True)
class Evaluation:
    """Results of one loss on one set of images.

    Attributes:
        classes: C results, in the order of the class names.
        balanced_accuracy: mean recall of the classes present.
        macro_f1: mean F1 of the classes present.
        accuracy: share of images predicted right.
        mcc: Matthews correlation over all classes, in -1..1; see `metrics.mcc_from_counts` for what is degenerate.
        kappa: quadratic weighted, in -1..1; None where the classes have no order.
        class_groups: many-, medium- and few-shot classes; empty without training counts.
        confusion: (C, C) images by true class (rows) and predicted class, mean over replicates.
        n: images.
        groups: distinct groups.
        replicates: tables the values are means over.
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


def evaluate(
    replicates: Sequence[Predictions],
    *,
    train_counts: Sequence[int] | None = None,
    ordered: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate predictions that were made for the same images once or several times.

    Values are means over the replicates (those where the value is defined). The intervals speak of the
    images, not of the training seeds: they tell how far the values may be off because these images were
    drawn and not others. So the correctness of an image is averaged over replicates first, n stays the
    number of images however many replicates there are, and images of one group count as alike.

    - recall, specificity, precision, accuracy: Wilson intervals with the effective sample size of clustered
      data. For precision these beat the bootstrap, which has no width where the few images predicted as a rare
      class are all right, or all wrong.
    - F1: for the same reason Wilson too, on F* = F1 / (2 - F1) = TP / (TP + FP + FN), which is a
      proportion (Hand, Christen & Kirielle 2021), carried back to F1 (the indirect method of Lam, Gopal &
      Qian 2023).
    - AUROC and average precision, of each class against all others: see `rank.rank_shares`. Images are put in
      order by `Predictions.probabilities` of the class, that is by the loss's own link where it is known. Those sum
      to one over the classes, so that the order is another than that of the class's logit alone.
    - balanced accuracy, and the mean recall of a class group: see `intervals.mean_of_shares`; mean F1 of a class group: MOVER.
    - macro F1, MCC, kappa: the group bootstrap, stratified by class, and on each side at least as wide as a closed
      form that keeps its width where nothing is wrong; see `overall.overall`.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        train_counts: C training images per class, which define the class groups.
        ordered: whether the order of the classes means something, as that of grades does.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same interval.

    Raises:
        ValueError: no table, no image, tables that differ in images, groups, targets or classes, or training counts
            of another number of classes.
    """
    tables = aligned(replicates)
    first = tables[0]
    group = group_codes(first)
    counts = count(tables, group)
    confusions = np.stack(
        [metrics.confusion_matrix(t.target, t.predicted, len(t.class_names)) for t in tables]
    )
    n, class_n = len(first), counts.actual.sum(axis=0, dtype=np.int64)
    present = np.asarray(class_n > 0)
    decided = _decided(counts, confusions, class_n)
    positive = first.target[:, None] == np.arange(len(class_n))
    auroc, average_precision = rank_shares(positive, (table.probabilities for table in tables), group)
    accuracy = _accuracy(counts, confusions, n)
    together = overall(
        counts, decided.f1.mean(present, n), accuracy, ordered=ordered, resamples=resamples, seed=seed
    )
    return Evaluation(
        classes=tuple(
            ClassResult(
                name=name,
                n=int(class_n[index]),
                groups=int(np.count_nonzero(counts.actual[:, index])),
                recall=decided.recall.estimate(index),
                precision=decided.precision.estimate(index),
                f1=decided.f1.estimate(index),
                specificity=decided.specificity.estimate(index),
                auroc=auroc.estimate(index),
                average_precision=average_precision.estimate(index),
            )
            for index, name in enumerate(first.class_names)
        ),
        balanced_accuracy=decided.recall.mean(present, n),
        macro_f1=together.macro_f1,
        accuracy=accuracy,
        mcc=together.mcc,
        kappa=together.kappa,
        class_groups=()
        if train_counts is None
        else class_groups(train_counts, decided.recall, decided.f1, class_n),
        confusion=confusions.mean(axis=0),
        n=n,
        groups=len(counts.actual),
        replicates=len(tables),
    )


@dataclass(frozen=True)
class _Decided:
    """Shares of each class that come of the decisions."""

    recall: Proportions
    precision: Proportions
    f1: Proportions
    specificity: Proportions


def _decided(counts: Counts, confusions: IntArray, class_n: IntArray) -> _Decided:
    hits, predicted = counts.hits.mean(axis=0), counts.predicted.mean(axis=0)
    others = counts.actual.sum(axis=1, keepdims=True) - counts.actual
    return _Decided(
        recall=proportions(defined_mean(metrics.recall(confusions)), hits, counts.actual, class_n),
        precision=proportions(
            defined_mean(metrics.precision(confusions)), hits, predicted, counts.ever_predicted
        ),
        f1=f1_proportions(
            np.where(class_n > 0, defined_mean(metrics.f1(confusions)), np.nan),
            hits,
            counts.actual + predicted - hits,
            class_n,
        ),
        specificity=proportions(
            defined_mean(metrics.specificity(confusions)),
            others - (predicted - hits),
            others,
            class_n.sum() - class_n,
        ),
    )


def _accuracy(counts: Counts, confusions: IntArray, n: int) -> Estimate:
    hits = counts.hits.mean(axis=0).sum(axis=1, keepdims=True)
    size = counts.actual.sum(axis=1, keepdims=True)
    return proportions(metrics.accuracy(confusions).mean(keepdims=True), hits, size, np.array([n])).estimate(
        0
    )
