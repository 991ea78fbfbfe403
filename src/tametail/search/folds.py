"""The images that a search may use, fold by fold: a fold that is left out cannot be reached from what remains.

Shape legend: n images, D an input (features, or an image), C classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.data import Splits
from tametail.training.heads.head_experiments import TrialData


@dataclass(frozen=True, eq=False)
class FoldData:
    """Inputs, targets and folds of n images, in the order of the table; copies, never views of a larger array.

    Attributes:
        inputs: (n, *D) features or decoded images.
        targets: (n,) class indices, or (n, C) labels, nan where unknown.
        fold: (n,) fold of each image.
        classes: C.
        blocks: lengths of the parts of a feature vector; empty for one part.
    """

    inputs: NDArray[np.generic]
    targets: NDArray[Any]
    fold: IntArray
    classes: int
    blocks: tuple[int, ...] = ()

    @property
    def folds(self) -> list[int]:
        """The distinct folds in ascending order."""
        return _distinct(self.fold)

    def without(self, *folds: int) -> FoldData:
        """A copy that holds nothing of the given folds."""
        rest = ~np.isin(self.fold, folds)
        return FoldData(self.inputs[rest], self.targets[rest], self.fold[rest], self.classes, self.blocks)

    def trial_data(self, left_out: Collection[int]) -> TrialData:
        """What a training sees when folds are left out: of these the inputs alone, fold after fold in the order given."""
        trained = ~np.isin(self.fold, list(left_out))
        held_out = np.concatenate([np.flatnonzero(self.fold == fold) for fold in left_out])
        inputs = cast(NDArray[np.float32], self.inputs)
        return TrialData(
            inputs[trained],
            self.targets[trained],
            inputs[held_out],
            self.classes,
            self.fold[trained],
            self.blocks,
        )

    def targets_of(self, fold: int) -> NDArray[Any]:
        """(m,) or (m, C) targets of a fold, in the order of the table."""
        return cast(NDArray[Any], self.targets[self.fold == fold])


def training_folds(
    inputs: NDArray[np.generic],
    targets: NDArray[Any],
    splits: Splits,
    classes: int,
    blocks: tuple[int, ...] = (),
) -> FoldData:
    """The folds of a table's training set, without the held-out test set.

    Args:
        inputs: (N, *D) of all images.
        targets: (N,) or (N, C) of all images.
        splits: of the N images, in the same order.
        classes: C.
        blocks: lengths of the parts of a feature vector.
    """
    rows = rows_of_folds(splits)
    return FoldData(inputs[rows], targets[rows], splits.fold[rows], classes, blocks)


def rows_of_folds(splits: Splits) -> IntArray:
    """(n,) rows of the table that belong to a fold."""
    return np.flatnonzero((splits.part == "train") & (splits.fold >= 0))


def folds_of(splits: Splits) -> list[int]:
    """The distinct folds of the training set in ascending order, as of `training_folds`."""
    return _distinct(splits.fold[rows_of_folds(splits)])


def _distinct(folds: IntArray) -> list[int]:
    return [int(fold) for fold in np.unique(folds)]
