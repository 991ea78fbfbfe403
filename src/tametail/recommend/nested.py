"""From the readings of all trainings to predictions in which nothing was chosen by the images it is judged on.

A training leaves one fold out, or two. The one without fold k gives the predictions of fold k that are judged. What is
chosen for them is chosen on the other folds alone: fold j is then predicted by the training without j and k, which knows
neither. So one training without two folds serves both of them.
Shape legend: S seeds, n images of the training set, m of them in some folds, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.recommend.candidates import Candidate
from tametail.recommend.offsets import best_offsets

Decisions = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TrainingKey:
    """A training on all folds but ``without``, one or two of them in order."""

    seed: int
    without: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"seed{self.seed}-without-{'-'.join(map(str, self.without))}"


def all_trainings(seeds: int, folds: int) -> list[TrainingKey]:
    """Those without one fold first, as they are worth most where time runs out."""
    places = [(fold,) for fold in range(folds)] + list(combinations(range(folds), 2))
    return [TrainingKey(seed, without) for without in places for seed in range(seeds)]


@dataclass(frozen=True, eq=False)
class AllOutputs:
    """What all trainings say of the images they left out.

    Attributes:
        target, fold: (n,) of the training set's images.
        classes: C.
        seeds: S.
        folds: k.
        decisions: by training, by the method's text, logits of the images of its ``without`` in the order of the images;
            the largest decides.
    """

    target: IntArray
    fold: IntArray
    classes: int
    seeds: int
    folds: int
    decisions: Mapping[TrainingKey, Decisions]

    def logits(self, method: str, fold: int, also_without: Iterable[int] = ()) -> FloatArray:
        """(S, m, C) of the images of ``fold``, by the trainings without it and without ``also_without``."""
        without = tuple(sorted({fold, *also_without}))
        own = self.fold[np.isin(self.fold, without)] == fold
        found = [self.decisions[TrainingKey(seed, without)][method][own] for seed in range(self.seeds)]
        return np.stack(found).astype(np.float64)

    def rows(self, folds: Iterable[int]) -> IntArray:
        """The images of some folds, fold after fold in the order given."""
        return np.concatenate([np.flatnonzero(self.fold == fold) for fold in folds])


@dataclass(frozen=True, eq=False)
class Pick:
    """What was chosen for a candidate: a method, and offsets (C,) of its logits or None."""

    method: str
    offsets: FloatArray | None = None

    def read(self, readings: AllOutputs, fold: int, also_without: Iterable[int] = ()) -> FloatArray:
        """(S, m, C) logits of a fold's images that decide."""
        logits = readings.logits(self.method, fold, also_without)
        return logits if self.offsets is None else logits + self.offsets


def pick(
    candidate: Candidate, readings: AllOutputs, folds: Sequence[int], also_without: Iterable[int] = ()
) -> Pick:
    """The choice of the highest balanced accuracy on some folds, all seeds together.

    Args:
        folds: to choose by; each is predicted by trainings without it.
        also_without: a fold that those trainings must not have seen either.
    """
    also = tuple(also_without)
    if candidate.choices == 0:
        return Pick(candidate.methods[0])
    target = readings.target[readings.rows(folds)]

    def logits(method: str) -> FloatArray:
        return np.concatenate([readings.logits(method, fold, also) for fold in folds], axis=1)

    if candidate.offsets:
        of_seeds = logits(candidate.methods[0])
        together = of_seeds.reshape(-1, readings.classes)
        return Pick(candidate.methods[0], best_offsets(together, np.tile(target, len(of_seeds))))

    def score(method: str) -> float:
        decided = logits(method).argmax(axis=2)
        matrices = [confusion_matrix(target, one, readings.classes) for one in decided]
        return float(balanced_accuracy(np.stack(matrices)).mean())

    scores = [score(method) for method in candidate.methods]
    best = next(at for at, value in enumerate(scores) if value >= max(scores) - 1e-12)
    return Pick(candidate.methods[best])


def outer_picks(candidate: Candidate, readings: AllOutputs) -> list[Pick]:
    """For each fold what is chosen without a look at it."""
    return [
        pick(candidate, readings, [j for j in range(readings.folds) if j != k], (k,))
        for k in range(readings.folds)
    ]


def final_pick(candidate: Candidate, readings: AllOutputs) -> Pick:
    """What is chosen by all folds, for images yet to come; it is judged on none of them."""
    return pick(candidate, readings, range(readings.folds))


def out_of_fold(readings: AllOutputs, picks: Sequence[Pick]) -> FloatArray:
    """(S, n, C) logits, in the order of the images, of each fold by what was picked for it."""
    found = np.empty((readings.seeds, len(readings.target), readings.classes))
    for fold, chosen in enumerate(picks):
        found[:, readings.fold == fold] = chosen.read(readings, fold)
    return found


def inner_of(candidate: Candidate, readings: AllOutputs, outer: int) -> FloatArray:
    """(S, m, C) logits of the images outside fold ``outer``, in their order, by trainings that have not seen that fold.

    They are what a method is chosen by for fold ``outer``. A number is chosen for fold j of them on the folds that are
    neither; the trainings behind those have seen j, as always in cross-validation, but never ``outer``.
    """
    inner = readings.fold != outer
    found = np.empty((readings.seeds, int(inner.sum()), readings.classes))
    others = [fold for fold in range(readings.folds) if fold != outer]
    for j in others:
        chosen = pick(candidate, readings, [i for i in others if i != j], (outer,))
        found[:, readings.fold[inner] == j] = chosen.read(readings, j, (outer,))
    return found
