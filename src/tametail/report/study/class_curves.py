"""Curves of a page: ROC and precision-recall of each class, and the net benefit of one class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tametail.core.arrays import IntArray
from tametail.evaluation.curves import Curve, precision_recall_curve, roc_curve
from tametail.evaluation.net_benefit import DecisionCurve, decision_curve
from tametail.evaluation.ranking_metrics import RankedClass
from tametail.evaluation.sample import align
from tametail.predictions.multi_label import LabelPredictions, check_same_images
from tametail.predictions.single_label import Predictions

MOST_CURVES = 8  # classes in one figure
_LEAST_IMAGES = 20  # of a class whose net benefit is shown without being asked for
_THRESHOLDS = tuple(percent / 100 for percent in (1, 2, 3, 4, *range(5, 100, 5)))


def class_curves(replicates: Sequence[Predictions]) -> dict[str, tuple[Curve, Curve]]:
    """ROC and precision-recall curve of each of the rarest classes against all others, by its name."""
    tables = align(replicates)
    target, names = tables[0].target, tables[0].class_names
    return {
        names[index]: _curves(
            RankedClass(target == index, [table.class_probabilities(index) for table in tables])
        )
        for index in _rarest(np.bincount(target, minlength=len(names)))
    }


def label_curves(replicates: Sequence[LabelPredictions]) -> dict[str, tuple[Curve, Curve]]:
    """The same of the rarest labels."""
    tables = check_same_images([table.sorted_by_image() for table in replicates])
    first = tables[0]
    return {
        first.class_names[index]: _curves(
            RankedClass(
                first.labels[:, index],
                [table.logits[:, index] for table in tables],
                first.known[:, index],
            )
        )
        for index in _rarest(first.labels.sum(axis=0))
    }


def _rarest(images: IntArray) -> list[int]:
    """Indices of the rarest classes that have images, as many as one figure shows, the most frequent of them first."""
    present = [index for index in np.argsort(-images, kind="stable").tolist() if images[index]]
    return present[-MOST_CURVES:]


def _curves(ranked: RankedClass) -> tuple[Curve, Curve]:
    return roc_curve(ranked), precision_recall_curve(ranked)


def net_benefit_curve(replicates: Sequence[Predictions], asked: Sequence[int]) -> DecisionCurve | None:
    """Net benefit of the first class that is asked for, else of the rarest of at least 20 images; None without one."""
    counts = np.bincount(replicates[0].target, minlength=len(replicates[0].class_names))
    chosen = next(iter([*asked, *_rare(counts)]), None)
    return None if chosen is None else decision_curve(replicates, chosen, _THRESHOLDS)


def label_net_benefit_curve(
    replicates: Sequence[LabelPredictions], asked: Sequence[int]
) -> DecisionCurve | None:
    """The same of a label, on the images of which it is known."""
    counts = replicates[0].labels.sum(axis=0)
    chosen = next(iter([*asked, *_rare(counts)]), None)
    if chosen is None:
        return None
    return decision_curve([table.of_label(chosen) for table in replicates], 1, _THRESHOLDS)


def _rare(counts: IntArray) -> list[int]:
    """Indices of the classes of enough images, the rarest first."""
    return [index for index in np.argsort(counts, kind="stable").tolist() if counts[index] >= _LEAST_IMAGES]
