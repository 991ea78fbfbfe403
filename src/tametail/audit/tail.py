"""How long the tail is: counts per class and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tametail.data.table import ImageTable

Part = Literal["head", "medium", "tail"]
# Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019: many, medium and few shot.
_MANY, _FEW = 100, 20
_BETA = 0.999  # Cui et al., CVPR 2019; of 0.9, 0.99, 0.999 and 0.9999 the one that tells medical counts apart


@dataclass(frozen=True)
class ClassFacts:
    """One class.

    Attributes:
        images, groups: how many.
        share: of all images, in [0, 1]; with several labels per image the shares sum to more than 1.
        part: ``head`` above 100 images, ``tail`` below 20, else ``medium``.
        effective: effective number of samples, (1 - β^n) / (1 - β) with β = 0.999: what n images are worth when each new
            one overlaps a little with those before.
    """

    name: str
    images: int
    groups: int
    share: float
    part: Part
    effective: float


@dataclass(frozen=True)
class Tail:
    """All classes, the largest first.

    Attributes:
        ratio: images of the largest class per image of the smallest; infinite where a class has none.
        gini: Gini coefficient of the counts, 0 for equal ones, near 1 where one class has all.
        effective_classes: exp of the entropy of the shares: as many equal classes would be as diverse.
    """

    classes: tuple[ClassFacts, ...]
    ratio: float
    gini: float
    effective_classes: float


def tail_of(table: ImageTable) -> Tail:
    """Count a table's classes."""
    labels = table.labels
    groups = table.groups
    counts = labels.sum(axis=0).tolist()
    classes = [
        ClassFacts(
            name,
            count,
            len(set(groups[labels[:, column]].tolist())),
            count / max(len(table), 1),
            "head" if count > _MANY else "tail" if count < _FEW else "medium",
            (1 - _BETA**count) / (1 - _BETA),
        )
        for column, (name, count) in enumerate(zip(table.class_names, counts, strict=True))
    ]
    ordered = tuple(sorted(classes, key=lambda one: (-one.images, one.name)))
    return Tail(ordered, table.imbalance_ratio, gini(counts), effective_classes(counts))


def gini(counts: Sequence[int]) -> float:
    """Gini coefficient of counts: half the mean absolute difference over the mean."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    n, total = len(ordered), ordered.sum()
    if total == 0:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def effective_classes(counts: Sequence[int]) -> float:
    """exp of the entropy of the shares; 0 where there is no image."""
    total = sum(counts)
    return (
        0.0
        if total == 0
        else math.exp(-sum(count / total * math.log(count / total) for count in counts if count))
    )
