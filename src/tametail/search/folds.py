"""The rows that a search may use, fold by fold: what is taken out of them cannot be reached from what is left.

Shape legend: n images, D what an input is (features, or a picture), C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tametail.data import Splits
from tametail.training.heads.head_experiments import TrialData


@dataclass(frozen=True, eq=False)
class Folds:
    """Inputs, targets and folds of n images, in the order of the table; arrays of their own, no views of a larger one.

    Attributes:
        inputs: (n, *D) features or decoded images.
        targets: (n,) class indices.
        fold: (n,) the fold of each.
        classes: C.
    """

    inputs: NDArray[np.generic]
    targets: NDArray[np.int64]
    fold: NDArray[np.int64]
    classes: int

    @property
    def names(self) -> list[int]:
        """The folds there are."""
        return [int(name) for name in np.unique(self.fold)]

    def without(self, *folds: int) -> Folds:
        """What is left when some folds are taken out: nothing of those is in it."""
        left = ~np.isin(self.fold, folds)
        return Folds(self.inputs[left], self.targets[left], self.fold[left], self.classes)

    def trial_data(self, out: Sequence[int], read: Sequence[int]) -> TrialData:
        """What a training sees when the folds ``out`` are left out of it: of the folds ``read`` the inputs alone.

        Args:
            out: folds that are not trained on.
            read: some of them, whose images are predicted, one fold after the other.
        """
        trained = ~np.isin(self.fold, out)
        held_out = np.concatenate([np.flatnonzero(self.fold == fold) for fold in read])
        inputs, targets = cast(NDArray[np.float32], self.inputs), self.targets[trained]
        return TrialData(inputs[trained], targets, inputs[held_out], self.classes)

    def of_fold(self, fold: int) -> NDArray[np.int64]:
        """(m,) the targets of a fold, in the order of the table."""
        of_fold: NDArray[np.int64] = self.targets[self.fold == fold]
        return of_fold


def training_folds(
    inputs: NDArray[np.generic], targets: NDArray[np.int64], splits: Splits, classes: int
) -> Folds:
    """The folds of a table's training set: of the held-out test set nothing is in them.

    Args:
        inputs: (N, *D) of all images.
        targets: (N,) of all images.
        splits: of the N images, in the same order.
    """
    rows = training_set(splits)
    return Folds(inputs[rows], targets[rows], splits.fold[rows], classes)


def training_set(splits: Splits) -> NDArray[np.int64]:
    """(n,) rows of the table that lie in some fold."""
    return np.flatnonzero((splits.part == "train") & (splits.fold >= 0))
