"""Correctness of several models on the same images, counted for paired tests.

Shape legend: N images, K cells (the images of one group and one class), G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.alignment import align, group_codes
from tametail.predictions.single_label import Predictions


@dataclass(frozen=True)
class Correctness:
    """Correct predictions of several models on the same images.

    Attributes:
        names: of the models.
        right: for each model (N,) the proportion of its replicates that are correct.
        target: (N,) class indices.
        class_names: all classes, absent ones included.
        groups: G.
        cell: (N,) the cell of an image, 0..K-1.
        images: (K,) images of a cell.
        group: (K,) group of a cell, 0..G-1.
        of_class: (K,) class of a cell, counted over the classes present.
    """

    names: tuple[str, ...]
    right: tuple[FloatArray, ...]
    target: IntArray
    class_names: tuple[str, ...]
    groups: int
    cell: IntArray
    images: FloatArray
    group: IntArray
    of_class: IntArray

    def differences(self, i: int, j: int) -> FloatArray:
        """Correct images (K,) of model i minus those of model j in each cell."""
        weights = self.right[i] - self.right[j]
        return np.bincount(self.cell, weights, len(self.images)).astype(np.float64)

    def contributions(self, differences: FloatArray) -> FloatArray:
        """Contribution (G,) of each group to the difference in balanced accuracy: sum_c hits / (C n_c)."""
        n = np.bincount(self.of_class, weights=self.images)
        share = differences / (n * len(n))[self.of_class]
        return np.bincount(self.group, share, self.groups).astype(np.float64)


def correctness(replicates_by_name: Mapping[str, Sequence[Predictions]]) -> Correctness:
    """Count correct predictions; models may have different numbers of replicates.

    Args:
        replicates_by_name: for each model, tables over the same images, e.g. one per seed (folds joined).

    Raises:
        ValueError: a model without tables, no image, or tables that differ in images, groups, targets or classes.
    """
    for name, replicates in replicates_by_name.items():
        if not replicates:
            raise ValueError(f"expected predictions of {name!r}, got none")
    tables = align([table for replicates in replicates_by_name.values() for table in replicates])
    first = tables[0]
    group = group_codes(first)
    right, start = [], 0
    for replicates in replicates_by_name.values():
        own = tables[start : start + len(replicates)]
        # Integers are added before the division, so that equal proportions are equal numbers.
        hits = np.sum([table.predicted == table.target for table in own], axis=0)
        right.append(hits / float(len(own)))
        start += len(own)
    classes = len(first.class_names)
    codes, cell, images = np.unique(group * classes + first.target, return_inverse=True, return_counts=True)
    return Correctness(
        names=tuple(replicates_by_name),
        right=tuple(right),
        target=first.target,
        class_names=first.class_names,
        groups=int(group.max()) + 1,
        cell=np.asarray(cell, dtype=np.int64),
        images=images.astype(np.float64),
        group=codes // classes,
        of_class=np.unique(codes % classes, return_inverse=True)[1].astype(np.int64),
    )
