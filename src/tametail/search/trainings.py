"""The trainings that a trial consists of, what is kept of each, and how they add up to scores.

Shape legend: C classes, m held-out images.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.evaluation import metrics
from tametail.search.folds import Folds
from tametail.training.heads.head_experiments import TrialResult

METRICS = {
    "balanced_accuracy": metrics.balanced_accuracy,
    "macro_f1": metrics.macro_f1,
    "accuracy": metrics.accuracy,
    "mcc": metrics.mcc,
    "kappa": metrics.quadratic_kappa,
}
TrialOutputs = Mapping[str, Any]
FAILED, SECONDS = "failed", "seconds"


@dataclass(frozen=True)
class TrainingKey:
    """A seed, the folds that are left out of the training, and those of them that are predicted."""

    seed: int
    out: tuple[int, ...]
    read: tuple[int, ...]

    @property
    def name(self) -> str:
        """By which it is kept."""
        return f"seed{self.seed}-without{'-'.join(map(str, self.out))}"

    def random_seed(self) -> int:
        """Of weights and order; where one fold is left out, that of `Run.random_seed`, so that a study gives the same."""
        return int(np.random.SeedSequence([self.seed, *self.out]).generate_state(1)[0])


def trainings_without_one(folds: Sequence[int], seeds: Sequence[int]) -> list[TrainingKey]:
    """Each fold is left out in turn and predicted: what chooses the values to recommend."""
    return [TrainingKey(seed, (fold,), (fold,)) for fold in folds for seed in seeds]


def trainings_without_two(folds: Sequence[int], seeds: Sequence[int]) -> list[TrainingKey]:
    """Each two folds are left out: one training is inner fold j of the outer fold k, and inner fold k of the outer fold j."""
    pairs = [(k, j) for k in folds for j in folds if k < j]
    return [TrainingKey(seed, pair, pair) for pair in pairs for seed in seeds]


def inner_trainings(outer: int | None, folds: Sequence[int], seeds: Sequence[int]) -> list[TrainingKey]:
    """Those that make up a score of the search ``outer``, inner fold by inner fold; None is the search over all folds.

    Args:
        folds: all folds of the study.
    """
    if outer is None:
        return trainings_without_one(folds, seeds)
    pairs = [(tuple(sorted((outer, fold))), fold) for fold in folds if fold != outer]
    return [TrainingKey(seed, pair, (fold,)) for pair, fold in pairs for seed in seeds]


def trial_outputs(result: TrialResult, training: TrainingKey, folds: Folds, seconds: float) -> dict[str, Any]:
    """What is written down of a training: images by true and by predicted class, for each fold that it predicted.

    Of a training that leaves out a single fold also what each image was predicted as.
    """
    if result.outputs is None:
        return {FAILED: result.message}
    decision = result.decision()
    if not np.isfinite(decision).all():
        return {FAILED: "the trained model's predictions are not finite numbers"}
    predicted = decision.argmax(axis=1)
    counts, start = {}, 0
    for fold in training.read:
        target = folds.of_fold(fold)
        own = predicted[start : start + len(target)]
        counts[str(fold)] = metrics.confusion_matrix(target, own, folds.classes).tolist()
        start += len(target)
    found: dict[str, Any] = {"counts": counts, SECONDS: round(seconds, 4)}
    if len(training.out) == 1:
        found["predicted"] = _packed(predicted)
    return found


def score(found: TrialOutputs, trainings: Sequence[TrainingKey], metric: str) -> float:
    """The metric on the pooled predictions of a seed's inner folds, mean over seeds; nan where a training failed.

    Args:
        found: what was kept, by the names of trainings.
        trainings: those that count, each read in one fold.
        metric: one of ``METRICS``.
    """
    by_seed: dict[int, NDArray[np.float64]] = {}
    for training in trainings:
        of_one = found.get(training.name)
        if of_one is None or FAILED in of_one:
            return math.nan
        counts = np.asarray(of_one["counts"][str(training.read[0])], dtype=np.float64)
        by_seed[training.seed] = by_seed.get(training.seed, np.zeros_like(counts)) + counts
    return float(np.mean([METRICS[metric](counts) for counts in by_seed.values()]))


def images(found: TrialOutputs, trainings: Sequence[TrainingKey]) -> int:
    """n: images that a score is of, each counted once however many seeds there are."""
    first = trainings[0].seed
    return sum(
        int(np.sum(found[training.name]["counts"][str(training.read[0])]))
        for training in trainings
        if training.seed == first and "counts" in found.get(training.name, {})
    )


def predicted_classes(of_one: TrialOutputs) -> NDArray[np.int64]:
    """(m,) what a training that leaves out a single fold predicted."""
    packed = zlib.decompress(base64.b64decode(of_one["predicted"]))
    return np.frombuffer(packed, dtype="<u2").astype(np.int64)


def why_failed(found: TrialOutputs) -> str:
    """The first reason, or nothing."""
    return next(
        (
            str(of_one[FAILED])
            for of_one in found.values()
            if isinstance(of_one, Mapping) and FAILED in of_one
        ),
        "",
    )


def _packed(predicted: NDArray[np.int64]) -> str:
    return base64.b64encode(zlib.compress(predicted.astype("<u2").tobytes())).decode("ascii")
