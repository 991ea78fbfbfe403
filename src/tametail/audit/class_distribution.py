"""Class distribution: counts per class and measures of imbalance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tametail.data.table import ImageTable

Shot = Literal["many", "medium", "few"]
# Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019.
_MANY, _FEW = 100, 20
_BETA = 0.999  # Cui et al., CVPR 2019; of 0.9, 0.99, 0.999 and 0.9999 the one that separates typical medical counts


@dataclass(frozen=True)
class ClassSummary:
    """One class.

    Attributes:
        images, groups: number of images and of groups with such an image.
        share: fraction of all images, in [0, 1]; with several labels per image the sum exceeds 1.
        shot: ``many`` above 100 images, ``few`` below 20, else ``medium`` (Liu et al. 2019).
        effective: effective number of samples, (1 - β^n) / (1 - β) with β = 0.999 (Cui et al. 2019), which allows for
            the overlap of each new image with those before.
    """

    name: str
    images: int
    groups: int
    share: float
    shot: Shot
    effective: float


@dataclass(frozen=True)
class ClassDistribution:
    """All classes, the largest first, and measures of imbalance.

    Attributes:
        imbalance_ratio: images of the largest class divided by those of the smallest; infinite if a class has none.
        gini: Gini coefficient of the counts: 0 if they are equal, near 1 if one class has all images.
        effective_classes: exponential of the entropy of the shares: the number of equal classes of that entropy.
    """

    classes: tuple[ClassSummary, ...]
    imbalance_ratio: float
    gini: float
    effective_classes: float


def class_distribution(table: ImageTable) -> ClassDistribution:
    """Count the images and groups of each class."""
    labels, groups = table.labels, table.groups
    counts = labels.sum(axis=0).tolist()
    classes = [
        ClassSummary(
            name,
            count,
            len(set(groups[labels[:, column]].tolist())),
            count / max(len(table), 1),
            "many" if count > _MANY else "few" if count < _FEW else "medium",
            (1 - _BETA**count) / (1 - _BETA),
        )
        for column, (name, count) in enumerate(zip(table.class_names, counts, strict=True))
    ]
    ordered = tuple(sorted(classes, key=lambda one: (-one.images, one.name)))
    return ClassDistribution(ordered, table.imbalance_ratio, gini(counts), effective_classes(counts))


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
