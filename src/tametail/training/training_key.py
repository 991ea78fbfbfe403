"""A training within cross-validation, named by its seed and the folds that it leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class TrainingKey:
    """A training on all folds except one or two.

    Attributes:
        seed: number of the repeat.
        left_out: the folds that are not trained on, in ascending order.
    """

    seed: int
    left_out: tuple[int, ...]

    @property
    def name(self) -> str:
        """Identifier in files, such as ``seed0-without1-3``."""
        return f"seed{self.seed}-without{'-'.join(map(str, self.left_out))}"

    def random_seed(self) -> int:
        """Seed of the initial weights and of the batch order, shared by all methods."""
        return int(np.random.SeedSequence([self.seed, *self.left_out]).generate_state(1)[0])


def leave_one_fold_out(folds: Iterable[int], seeds: Iterable[int]) -> list[TrainingKey]:
    """One training for each fold and seed."""
    seeds = list(seeds)
    return [TrainingKey(seed, (fold,)) for fold in folds for seed in seeds]


def leave_two_folds_out(folds: Iterable[int], seeds: Iterable[int]) -> list[TrainingKey]:
    """One training for each pair of folds and seed: each fold of a pair can be the inner fold of the other."""
    seeds = list(seeds)
    return [TrainingKey(seed, pair) for pair in combinations(sorted(folds), 2) for seed in seeds]
