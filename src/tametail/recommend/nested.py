"""Tunes candidates within nested cross-validation, so that no image evaluates a parameter that was tuned on it.

A training leaves out one fold or two. The training without fold k predicts fold k for evaluation. What is tuned for fold k
is tuned on the other folds alone, where fold j is predicted by the training without j and k, which has seen neither; this
training serves both folds.
Shape legend: S seeds, n images of the training set, m of them in some folds, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.recommend.candidates import Candidate
from tametail.recommend.class_offsets import best_offsets
from tametail.recommend.objective import Objective
from tametail.training.run import TrainingKey, leave_one_fold_out, leave_two_folds_out

MethodOutputs = Mapping[str, NDArray[np.float32]]  # by the method's text


def all_trainings(seeds: int, folds: int) -> list[TrainingKey]:
    """All trainings, those without a single fold first, as they are the most informative if time runs out."""
    numbers = range(folds), range(seeds)
    return [*leave_one_fold_out(*numbers), *leave_two_folds_out(*numbers)]


class Predicted(NamedTuple):
    """Outputs for m images.

    Attributes:
        logits: (S, m, C), the largest of which decides.
        posterior: (S, m, C) probabilities by the loss's own link, which sum to one.
    """

    logits: FloatArray
    posterior: FloatArray

    def objective(self, objective: Objective, target: IntArray, subgroup: IntArray | None = None) -> float:
        """The objective over seeds, with the sign that makes greater better."""
        return objective.over_replicates(target, zip(*self, strict=True), subgroup)


@dataclass(frozen=True, eq=False)
class AllOutputs:
    """The outputs of all trainings for the images that they left out.

    Attributes:
        target, fold: (n,) of the images of the training set.
        classes: C.
        seeds: S.
        folds: number of folds.
        decisions: by training and method, logits of the left-out images in the order of the images; the largest decides.
        posteriors: likewise, probabilities by the loss's own link, which sum to one.
        subgroup: (n,) where the objective needs it, see `Objective.subgroup`.
    """

    target: IntArray
    fold: IntArray
    classes: int
    seeds: int
    folds: int
    decisions: Mapping[TrainingKey, MethodOutputs]
    posteriors: Mapping[TrainingKey, MethodOutputs]
    subgroup: IntArray | None = None

    def predicted(self, method: str, fold: int, also_without: Iterable[int] = ()) -> Predicted:
        """Outputs for the images of ``fold``, from the trainings without it and without ``also_without``."""
        left_out = tuple(sorted({fold, *also_without}))
        rows = self.fold[np.isin(self.fold, left_out)] == fold
        trainings = [TrainingKey(seed, left_out) for seed in range(self.seeds)]
        logits, posterior = (
            np.stack([of_all[training][method][rows] for training in trainings]).astype(np.float64)
            for of_all in (self.decisions, self.posteriors)
        )
        return Predicted(logits, posterior)

    def rows(self, folds: Iterable[int]) -> IntArray:
        """The images of some folds, fold after fold in the order given."""
        return np.concatenate([np.flatnonzero(self.fold == fold) for fold in folds])


@dataclass(frozen=True, eq=False)
class TunedCandidate:
    """The tuned form of a candidate: a method, and offsets (C,) of its logits or None."""

    method: str
    offsets: FloatArray | None = None

    def predicted(self, outputs: AllOutputs, fold: int, also_without: Iterable[int] = ()) -> Predicted:
        """Outputs for a fold's images; offsets change the decision, and not the posterior."""
        logits, posterior = outputs.predicted(self.method, fold, also_without)
        return Predicted(logits if self.offsets is None else logits + self.offsets, posterior)


def tune(
    candidate: Candidate,
    outputs: AllOutputs,
    objective: Objective,
    folds: Sequence[int],
    also_without: Iterable[int] = (),
) -> TunedCandidate:
    """Tune a candidate for an objective on some folds, averaged over seeds; of equally good forms the first.

    Log-loss and net benefit depend on the posterior alone: offsets and the τ of logit adjustment, which change the decision,
    are then 0. For the worst group, offsets are tuned for the balanced accuracy of all images.

    Args:
        folds: to tune on; each is predicted by trainings without it.
        also_without: a fold that those trainings must not have seen either.
    """
    also = tuple(also_without)
    if candidate.tuned == 0:
        return TunedCandidate(candidate.methods[0])
    rows = outputs.rows(folds)
    target, subgroup = outputs.target[rows], None if outputs.subgroup is None else outputs.subgroup[rows]

    def predicted(method: str) -> Predicted:
        of_folds = [outputs.predicted(method, fold, also) for fold in folds]
        return Predicted(*(np.concatenate(parts, axis=1) for parts in zip(*of_folds, strict=True)))

    if candidate.offsets:
        method = candidate.methods[0]
        if objective.offsets_for is None:
            return TunedCandidate(method, np.zeros(outputs.classes))
        by_seed = predicted(method).logits
        pooled, repeated = by_seed.reshape(-1, outputs.classes), np.tile(target, len(by_seed))
        return TunedCandidate(method, best_offsets(pooled, repeated, objective.offsets_for))

    scores = {
        method: predicted(method).objective(objective, target, subgroup) for method in candidate.methods
    }
    best = max(scores.values())
    return TunedCandidate(next(method for method, value in scores.items() if value >= best - 1e-12))


def tune_by_fold(candidate: Candidate, outputs: AllOutputs, objective: Objective) -> list[TunedCandidate]:
    """For each fold the candidate tuned on the other folds."""
    folds = range(outputs.folds)
    return [tune(candidate, outputs, objective, [j for j in folds if j != k], (k,)) for k in folds]


def tune_on_all(candidate: Candidate, outputs: AllOutputs, objective: Objective) -> TunedCandidate:
    """The candidate tuned on all folds, for future images; it is evaluated on none of them."""
    return tune(candidate, outputs, objective, range(outputs.folds))


def out_of_fold(outputs: AllOutputs, by_fold: Sequence[TunedCandidate]) -> Predicted:
    """Outputs for all images in their order, each fold's by what was tuned for it."""
    found = _empty(outputs, len(outputs.target))
    for fold, tuned in enumerate(by_fold):
        _fill(found, outputs.fold == fold, tuned.predicted(outputs, fold))
    return found


def inner_predictions(
    candidate: Candidate, outputs: AllOutputs, objective: Objective, outer: int
) -> Predicted:
    """Outputs for the images outside fold ``outer``, in their order, from trainings that have not seen that fold.

    The candidate for fold ``outer`` is selected with them. A parameter for inner fold j is tuned on the folds other than j
    and ``outer``; the trainings behind those have seen j, as always in cross-validation, but never ``outer``.
    """
    inner = outputs.fold != outer
    found = _empty(outputs, int(inner.sum()))
    others = [fold for fold in range(outputs.folds) if fold != outer]
    for j in others:
        tuned = tune(candidate, outputs, objective, [i for i in others if i != j], (outer,))
        _fill(found, outputs.fold[inner] == j, tuned.predicted(outputs, j, (outer,)))
    return found


def _empty(outputs: AllOutputs, images: int) -> Predicted:
    shape = (outputs.seeds, images, outputs.classes)
    return Predicted(np.empty(shape), np.empty(shape))


def _fill(whole: Predicted, rows: NDArray[np.bool_], part: Predicted) -> None:
    for values, of_rows in zip(whole, part, strict=True):
        values[:, rows] = of_rows
