"""Suspected label errors, by confident learning on out-of-fold probabilities (Northcutt, Jiang & Chuang 2021).

The model must not have seen an image or its group when it predicted it: then its disagreement with a label is evidence. It is no
proof, as the model was trained on the same labels. Shape legend: N images, C classes, T tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tametail.core.arrays import FloatArray, IntArray, few_of_each
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions

MOST_OF_A_GROUP = 2  # suspects of one patient in the list
MOST_LISTED = 200
STEPS = (5, 10, 20, 50, 100)  # numbers of labels that are replaced
NONE = -1  # no class reaches its threshold
_ROUNDING = 1e-6  # equal probabilities reach their mean


@dataclass(frozen=True)
class SuspectLabel:
    """An image whose label is suspected to be wrong.

    Attributes:
        image, group: its ids.
        given, suggested: class indices.
        p_given, p_suggested: the probabilities of these classes.
        group_images: images of its group, itself included.
        group_given: those of them with the given label.
        group_suggested: those of them whose confident class is the suggested one.
    """

    image: str
    group: str
    given: int
    suggested: int
    p_given: float
    p_suggested: float
    group_images: int
    group_given: int
    group_suggested: int

    @property
    def margin(self) -> float:
        """Probability of the suggested class minus that of the given one, in -1..1."""
        return self.p_suggested - self.p_given


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What confident learning counts, and the labels that are contradicted most.

    Attributes:
        thresholds: (C,) see `class_thresholds`.
        joint: (C, C) see `confident_joint`.
        suspects: the least probable given label first, at most ``MOST_OF_A_GROUP`` of a group and ``MOST_LISTED`` in all.
    """

    thresholds: FloatArray
    joint: IntArray
    suspects: tuple[SuspectLabel, ...]

    @property
    def count(self) -> int:
        """Estimated number of label errors: the images off the diagonal of the joint."""
        return int(self.joint.sum() - np.trace(self.joint))


def class_thresholds(p: FloatArray, target: IntArray) -> FloatArray:
    """Mean probability (C,) of each class over the images with its label: its mean self-confidence; nan without images.

    Args:
        p: (N, C) probabilities.
        target: (N,) given labels.
    """
    n = np.bincount(target, minlength=p.shape[1])
    total = np.bincount(target, p[np.arange(len(p)), target], minlength=p.shape[1])
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan))


def confident_classes(p: FloatArray, thresholds: FloatArray) -> IntArray:
    """For each image, the most probable (N,) of the classes that reach their threshold; -1 where none does."""
    reached = np.where(p >= thresholds - _ROUNDING, p, -1.0)  # never where the threshold is nan
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), NONE)


def confident_joint(target: IntArray, confident: IntArray, classes: int) -> IntArray:
    """Images (C, C) by given label (rows) and confident class (columns); those without a confident class are not counted."""
    known = confident != NONE
    cells = target[known] * classes + confident[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def find_label_errors(predictions: Predictions) -> LabelErrors:
    """Images off the diagonal of the confident joint, and those whose most probable class is another one.

    They are ranked by the probability of the given label, its self-confidence: of planted errors on two sets it finds more among
    the first 200 than a ranking by the margin between suggested and given class (docs/results/label-errors.md). Suggested is the
    confident class where that is another one, else the most probable class.

    Args:
        predictions: out-of-fold, each image once; groups never cross folds.
    """
    p, target = predictions.probabilities, predictions.target
    thresholds = class_thresholds(p, target)
    confident = confident_classes(p, thresholds)
    contradicted = (confident != NONE) & (confident != target)
    suggestion = np.where(contradicted, confident, p.argmax(axis=1))
    rows = np.flatnonzero(suggestion != target)
    rows = rows[np.argsort(p[rows, target[rows]], kind="stable")]
    group = np.unique(predictions.group, return_inverse=True)[1]
    chosen = few_of_each(rows, predictions.group, MOST_OF_A_GROUP, MOST_LISTED)
    images = np.bincount(group)
    with_label = Counter(zip(group.tolist(), target.tolist(), strict=True))
    with_confidence = Counter(zip(group.tolist(), confident.tolist(), strict=True))
    suspects = []
    for row in chosen:
        of, given, suggested = int(group[row]), int(target[row]), int(suggestion[row])
        suspects.append(
            SuspectLabel(
                str(predictions.image[row]),
                str(predictions.group[row]),
                given,
                suggested,
                float(p[row, given]),
                float(p[row, suggested]),
                int(images[of]),
                with_label[of, given],
                with_confidence[of, suggested],
            )
        )
    joint = confident_joint(target, confident, p.shape[1])
    return LabelErrors(thresholds, joint, tuple(suspects))


def score_if_wrong(
    tables: Sequence[Predictions], suspects: Sequence[SuspectLabel]
) -> tuple[tuple[int, Estimate], ...]:
    """Balanced accuracy if the labels of the first k suspects were the suggested ones, for 0 and growing k.

    Nothing is trained again. As the suggestions come from the predictions that are scored, it can hardly fall: it shows how much
    depends on these labels, not how good the method is.

    Args:
        tables: T tables over the same images, one per repeat.
        suspects: the most suspect first.
    """
    most = min(len(suspects), STEPS[-1])
    steps = [0, *(step for step in STEPS if step < most), *([most] if most else [])]
    found = []
    for step in steps:
        suggested = {one.image: one.suggested for one in suspects[:step]}
        found.append((step, Sample([_relabelled(table, suggested) for table in tables]).balanced_accuracy))
    return tuple(found)


def _relabelled(table: Predictions, labels: dict[str, int]) -> Predictions:
    """The table with other labels for these images."""
    target = table.target.copy()
    for row in np.flatnonzero(np.isin(table.image, list(labels))):
        target[row] = labels[str(table.image[row])]
    return replace(table, target=target)
