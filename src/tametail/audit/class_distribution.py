"""Class distribution: counts per class and measures of imbalance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tametail.data.class_groups import ClassGroupName, class_group_of
from tametail.data.table import SPLITS, ImageTable

_BETA = 0.999  # Cui et al., CVPR 2019; of 0.9, 0.99, 0.999 and 0.9999 the one that separates typical medical counts


@dataclass(frozen=True)
class ClassSummary:
    """One class.

    Attributes:
        images, groups: number of images and of groups with such an image.
        share: fraction of all images, in [0, 1]; with several labels per image the sum exceeds 1.
        splits: images in each given split (``train``, ``val``, ``test``) that the table has; empty where none is given.
        training: images outside the given test set; all of them where none is given.
        shot: by training images, see `tametail.data.class_groups.class_group_of`.
        effective: effective number of training samples, (1 - β^n) / (1 - β) with β = 0.999 (Cui et al. 2019), which
            allows for the overlap of each new image with those before.
    """

    name: str
    images: int
    groups: int
    share: float
    splits: Mapping[str, int]
    training: int
    shot: ClassGroupName
    effective: float


@dataclass(frozen=True)
class ClassDistribution:
    """All classes, that with the most training images first, and measures of the imbalance of the training set.

    Attributes:
        imbalance_ratio: training images of the largest class divided by those of the smallest; infinite if a class has
            none.
        gini: Gini coefficient of the counts: 0 if they are equal, near 1 if one class has all images.
        effective_classes: exponential of the entropy of the shares: the number of equal classes of that entropy.
    """

    classes: tuple[ClassSummary, ...]
    imbalance_ratio: float
    gini: float
    effective_classes: float


def class_distribution(table: ImageTable) -> ClassDistribution:
    """Count the images and groups of each class, in all and in each given split."""
    labels, groups, split = table.labels, table.groups, table.frame["split"].to_numpy()
    counts = labels.sum(axis=0).tolist()
    given = [name for name in SPLITS if name and (split == name).any()]
    per_split = {name: labels[split == name].sum(axis=0).tolist() for name in given}
    training_set = table.training_set
    training = list(training_set.counts().values())
    classes = [
        ClassSummary(
            name,
            counts[column],
            len(set(groups[labels[:, column]].tolist())),
            counts[column] / max(len(table), 1),
            {given: of_split[column] for given, of_split in per_split.items()},
            training[column],
            class_group_of(training[column]),
            (1 - _BETA ** training[column]) / (1 - _BETA),
        )
        for column, name in enumerate(table.class_names)
    ]
    ordered = tuple(sorted(classes, key=lambda one: (-one.training, one.name)))
    return ClassDistribution(
        ordered, training_set.imbalance_ratio, gini(training), effective_classes(training)
    )


def gini(counts: Sequence[int]) -> float:
    """Gini coefficient of counts: half the mean absolute difference over the mean."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    n, total = len(ordered), ordered.sum()
    if total == 0:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def effective_classes(counts: Sequence[int]) -> float:
    """Exponential of the entropy of the shares; 0 if there is no image."""
    if not any(counts):
        return 0.0
    shares = [count / sum(counts) for count in counts if count]
    return math.exp(-sum(share * math.log(share) for share in shares))
