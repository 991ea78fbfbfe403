"""Head, medium and tail: thirds of the classes by their training images.

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

ClassGroupName = Literal["head", "medium", "tail"]


@dataclass(frozen=True)
class ClassGroup:
    """How well the classes of one third are told from all others.

    Attributes:
        name: ``head``, ``medium`` or ``tail``.
        classes: indices of its classes, those absent from the images evaluated included.
        recall: mean recall of its classes that are present; its n counts their images.
        f1: mean F1 of the same.
    """

    name: ClassGroupName
    classes: tuple[int, ...]
    recall: Estimate
    f1: Estimate


def tail_classes(class_counts: Sequence[int]) -> BoolArray:
    """(C,) which classes are the tail: the rarest third by training images, at least one, and those as rare as its last.

    A share of the classes and not a fixed number of images (the audit calls a class below 20 images tail, after Liu et
    al., CVPR 2019): most medical sets have no class so small, and their rarest classes are watched all the same.
    """
    counts = np.asarray(class_counts)
    most = np.sort(counts)[max(len(counts) // 3, 1) - 1]
    return np.asarray(counts <= most)


def head_classes(class_counts: Sequence[int]) -> BoolArray:
    """(C,) which classes are the head: the commonest third, and those as common as its last, that are not the tail."""
    counts = np.asarray(class_counts)
    least = np.sort(counts)[len(counts) - max(len(counts) // 3, 1)]
    return np.asarray((counts >= least) & ~tail_classes(class_counts))


def class_groups(
    class_counts: Sequence[int], recall: Proportions, f1: Proportions, class_n: NDArray[np.int64]
) -> tuple[ClassGroup, ...]:
    """The bands that have a class, head first; a band of which no class is present has means of nan.

    Args:
        class_counts: C training images per class.
        recall, f1: C shares each.
        class_n: (C,) images evaluated of each class.

    Raises:
        ValueError: not one count per class.
    """
    if len(class_counts) != len(class_n):
        raise ValueError(f"expected training counts of {len(class_n)} classes, got {len(class_counts)}")
    head, tail = head_classes(class_counts), tail_classes(class_counts)
    named: tuple[tuple[ClassGroupName, BoolArray], ...] = (
        ("head", head),
        ("medium", ~head & ~tail),
        ("tail", tail),
    )
    found = []
    for name, fold_models in named:
        present, n = np.asarray(fold_models & (class_n > 0)), int(class_n[fold_models].sum())
        if fold_models.any():
            classes = tuple(np.flatnonzero(fold_models).tolist())
            found.append(ClassGroup(name, classes, recall.mean(present, n), f1.mean(present, n)))
    return tuple(found)
