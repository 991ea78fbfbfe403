"""Many-, medium- and few-shot classes: thirds of the classes by their number of training images.

Shape legend: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray
from tametail.evaluation.proportions import Estimate, Proportions

ClassGroupName = Literal["many", "medium", "few"]


@dataclass(frozen=True)
class ClassGroup:
    """Mean recall and F1 of one third of the classes.

    Attributes:
        name: ``many``, ``medium`` or ``few``.
        classes: indices of its classes, including those without an image in the evaluated set.
        recall: mean recall of its classes that are present; its n counts their images.
        f1: mean F1 of the same classes.
    """

    name: ClassGroupName
    classes: tuple[int, ...]
    recall: Estimate
    f1: Estimate


def few_shot_classes(class_counts: Sequence[int]) -> BoolArray:
    """Mark (C,) the few-shot classes: the rarest third by training images, at least one, and any as rare as its last.

    A third of the classes rather than a fixed number of images, as most medical data sets have no class of fewer than
    20 images (the bound of Liu et al., CVPR 2019, which the audit uses).
    """
    counts = np.asarray(class_counts)
    most = np.sort(counts)[max(len(counts) // 3, 1) - 1]
    return np.asarray(counts <= most)


def many_shot_classes(class_counts: Sequence[int]) -> BoolArray:
    """Mark (C,) the many-shot classes: the most frequent third, and any as frequent as its last, without few-shot ones."""
    counts = np.asarray(class_counts)
    least = np.sort(counts)[len(counts) - max(len(counts) // 3, 1)]
    return np.asarray((counts >= least) & ~few_shot_classes(class_counts))


def class_groups(
    class_counts: Sequence[int], recall: Proportions, f1: Proportions, class_n: NDArray[np.int64]
) -> tuple[ClassGroup, ...]:
    """Average recall and F1 over each group that has a class, many-shot classes first.

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
    many, few = many_shot_classes(class_counts), few_shot_classes(class_counts)
    members: dict[ClassGroupName, BoolArray] = {"many": many, "medium": ~many & ~few, "few": few}
    found = []
    for name, member in members.items():
        present, n = np.asarray(member & (class_n > 0)), int(class_n[member].sum())
        if member.any():
            classes = tuple(np.flatnonzero(member).tolist())
            found.append(ClassGroup(name, classes, recall.mean(present, n), f1.mean(present, n)))
    return tuple(found)
