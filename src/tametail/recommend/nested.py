"""Tunes candidates within nested cross-validation, so that no image evaluates a parameter that was tuned on it.

A training leaves out one fold or two. The training without fold k predicts fold k for evaluation. What is tuned for fold k
is tuned on the other folds alone, where fold j is predicted by the training without j and k, which has seen neither; this
training serves both folds.
Shape legend: S seeds, n images of the training set, m of them in some folds, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.recommend.candidates import Candidate
from tametail.recommend.class_offsets import best_offsets
from tametail.training.run import TrainingKey, leave_one_fold_out, leave_two_folds_out

MethodLogits = Mapping[str, NDArray[np.float32]]  # by the method's text


def all_trainings(seeds: int, folds: int) -> list[TrainingKey]:
    """All trainings, those without a single fold first, as they are the most informative if time runs out."""
    numbers = range(folds), range(seeds)
    return [*leave_one_fold_out(*numbers), *leave_two_folds_out(*numbers)]


@dataclass(frozen=True, eq=False)
class AllOutputs:
    """The outputs of all trainings for the images that they left out.

    Attributes:
        target, fold: (n,) of the images of the training set.
        classes: C.
        seeds: S.
        folds: number of folds.
        decisions: by training and method, logits of the left-out images in the order of the images; the largest decides.
    """

    target: IntArray
    fold: IntArray
    classes: int
    seeds: int
    folds: int
    decisions: Mapping[TrainingKey, MethodLogits]

    def logits(self, method: str, fold: int, also_without: Iterable[int] = ()) -> FloatArray:
        """(S, m, C) of the images of ``fold``, from the trainings without it and without ``also_without``."""
        left_out = tuple(sorted({fold, *also_without}))
        rows = self.fold[np.isin(self.fold, left_out)] == fold
        by_seed = [self.decisions[TrainingKey(seed, left_out)][method][rows] for seed in range(self.seeds)]
        return np.stack(by_seed).astype(np.float64)

    def rows(self, folds: Iterable[int]) -> IntArray:
        """The images of some folds, fold after fold in the order given."""
        return np.concatenate([np.flatnonzero(self.fold == fold) for fold in folds])


@dataclass(frozen=True, eq=False)
class TunedCandidate:
    """The tuned form of a candidate: a method, and offsets (C,) of its logits or None."""

    method: str
    offsets: FloatArray | None = None

    def logits(self, outputs: AllOutputs, fold: int, also_without: Iterable[int] = ()) -> FloatArray:
        """(S, m, C) logits of a fold's images, the largest of which decides."""
        logits = outputs.logits(self.method, fold, also_without)
        return logits if self.offsets is None else logits + self.offsets


def tune(
    candidate: Candidate, outputs: AllOutputs, folds: Sequence[int], also_without: Iterable[int] = ()
) -> TunedCandidate:
    """Tune a candidate for the highest balanced accuracy on some folds, averaged over seeds.

    Args:
        folds: to tune on; each is predicted by trainings without it.
        also_without: a fold that those trainings must not have seen either.
    """
    also = tuple(also_without)
    if candidate.tuned == 0:
        return TunedCandidate(candidate.methods[0])
    target = outputs.target[outputs.rows(folds)]

    def logits(method: str) -> FloatArray:
        return np.concatenate([outputs.logits(method, fold, also) for fold in folds], axis=1)

    if candidate.offsets:
        by_seed = logits(candidate.methods[0])
        pooled = by_seed.reshape(-1, outputs.classes)
        return TunedCandidate(candidate.methods[0], best_offsets(pooled, np.tile(target, len(by_seed))))

    def score(method: str) -> float:
        predicted = logits(method).argmax(axis=2)
        matrices = [confusion_matrix(target, of_seed, outputs.classes) for of_seed in predicted]
        return float(balanced_accuracy(np.stack(matrices)).mean())

    scores = {method: score(method) for method in candidate.methods}
    best = max(scores.values())
    return TunedCandidate(next(method for method, value in scores.items() if value >= best - 1e-12))


def tune_by_fold(candidate: Candidate, outputs: AllOutputs) -> list[TunedCandidate]:
    """For each fold the candidate tuned on the other folds."""
    folds = range(outputs.folds)
    return [tune(candidate, outputs, [j for j in folds if j != k], (k,)) for k in folds]


def tune_on_all(candidate: Candidate, outputs: AllOutputs) -> TunedCandidate:
    """The candidate tuned on all folds, for future images; it is evaluated on none of them."""
    return tune(candidate, outputs, range(outputs.folds))


def out_of_fold_logits(outputs: AllOutputs, by_fold: Sequence[TunedCandidate]) -> FloatArray:
    """(S, n, C) logits in the order of the images, each fold's by what was tuned for it."""
    logits = np.empty((outputs.seeds, len(outputs.target), outputs.classes))
    for fold, tuned in enumerate(by_fold):
        logits[:, outputs.fold == fold] = tuned.logits(outputs, fold)
    return logits


def inner_logits(candidate: Candidate, outputs: AllOutputs, outer: int) -> FloatArray:
    """(S, m, C) logits of the images outside fold ``outer``, in their order, from trainings that have not seen that fold.

    The candidate for fold ``outer`` is selected with them. A parameter for inner fold j is tuned on the folds other than j
    and ``outer``; the trainings behind those have seen j, as always in cross-validation, but never ``outer``.
    """
    inner = outputs.fold != outer
    logits = np.empty((outputs.seeds, int(inner.sum()), outputs.classes))
    others = [fold for fold in range(outputs.folds) if fold != outer]
    for j in others:
        tuned = tune(candidate, outputs, [i for i in others if i != j], (outer,))
        logits[:, outputs.fold[inner] == j] = tuned.logits(outputs, j, (outer,))
    return logits
