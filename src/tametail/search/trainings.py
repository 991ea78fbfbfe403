"""The trainings of a trial, the outputs that are stored of each, and the scores computed from them.

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

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import METRICS, ConfusionMetric, metrics
from tametail.search.folds import FoldData
from tametail.training.heads.head_experiments import TrialResult
from tametail.training.run import TrainingKey, leave_one_fold_out

TrialOutputs = Mapping[str, Any]  # by the names of trainings, see `trial_outputs`
FAILED, SECONDS = "failed", "seconds"


def metric_names() -> list[str]:
    """Metrics that a search can maximise: registered functions of the confusion matrix of which greater is better."""
    usable = (metric for metric in METRICS if isinstance(metric, ConfusionMetric))
    return [metric.name for metric in usable if metric.greater_is_better]


@dataclass(frozen=True)
class SelectionMetric:
    """The metric that a search maximises.

    Attributes:
        name: one of `metric_names`.
        order: C class indices from the lowest grade to the highest; None for a metric that needs no order.
    """

    name: str
    order: tuple[int, ...] | None = None

    def value(self, counts: FloatArray) -> float:
        """The value for a confusion matrix (C, C) of the classes in the order of their indices."""
        found = METRICS.get(self.name)
        assert isinstance(found, ConfusionMetric)
        return float(found.function(counts if self.order is None else counts[np.ix_(self.order, self.order)]))


def is_ordinal(metric: str) -> bool:
    """Whether one of `metric_names` is for ordinal classes only."""
    found = METRICS.get(metric)
    return isinstance(found, ConfusionMetric) and found.ordinal


def inner_trainings(outer: int | None, folds: Sequence[int], seeds: Sequence[int]) -> list[TrainingKey]:
    """The trainings that a score in one search consists of, inner fold by inner fold.

    Args:
        outer: the outer fold of the search; None for the search over all folds.
        folds: all folds of the study.
        seeds: numbers of the repeats.
    """
    if outer is None:
        return leave_one_fold_out(folds, seeds)
    pairs = [(min(outer, fold), max(outer, fold)) for fold in folds if fold != outer]
    return [TrainingKey(seed, pair) for pair in pairs for seed in seeds]


def trial_outputs(
    result: TrialResult, training: TrainingKey, left_out: Sequence[int], folds: FoldData, seconds: float
) -> dict[str, Any]:
    """What is stored of a training: a confusion matrix for each fold, or why it failed.

    For a training that leaves out a single fold, also the predicted class of each image.

    Args:
        left_out: the folds that were predicted, in that order.
        folds: where their targets are found.
        seconds: how long the training took.
    """
    if result.outputs is None:
        return {FAILED: result.message}
    decision = result.decision()
    if not np.isfinite(decision).all():
        return {FAILED: "the trained model's predictions are not finite numbers"}
    predicted = decision.argmax(axis=1)
    counts, start = {}, 0
    for fold in left_out:
        target = folds.targets_of(fold)
        of_fold = predicted[start : start + len(target)]
        counts[str(fold)] = metrics.confusion_matrix(target, of_fold, folds.classes).tolist()
        start += len(target)
    outputs: dict[str, Any] = {"counts": counts, SECONDS: round(seconds, 4)}
    if len(training.left_out) == 1:
        packed = zlib.compress(predicted.astype("<u2").tobytes())
        outputs["predicted"] = base64.b64encode(packed).decode("ascii")
    return outputs


def trial_score(
    outputs: TrialOutputs, trainings: Sequence[TrainingKey], metric: SelectionMetric, outer: int | None = None
) -> float:
    """The metric on the pooled predictions of a seed's inner folds, averaged over seeds; nan if a training failed.

    Args:
        outputs: stored outputs of a trial.
        trainings: those that count.
        metric: what is computed.
        outer: the outer fold of the search, which does not count; None for the search over all folds.
    """
    by_seed: dict[int, FloatArray] = {}
    for training in trainings:
        stored = outputs.get(training.name)
        if stored is None or FAILED in stored:
            return math.nan
        counts = np.asarray(stored["counts"][_inner_fold(training, outer)], dtype=np.float64)
        by_seed[training.seed] = by_seed.get(training.seed, np.zeros_like(counts)) + counts
    return float(np.mean([metric.value(counts) for counts in by_seed.values()]))


def scored_images(outputs: TrialOutputs, trainings: Sequence[TrainingKey], outer: int | None = None) -> int:
    """Number of images that a score is computed on, counted once however many seeds there are."""
    return sum(
        int(np.sum(outputs[training.name]["counts"][_inner_fold(training, outer)]))
        for training in trainings
        if training.seed == trainings[0].seed and "counts" in outputs.get(training.name, {})
    )


def predicted_classes(stored: Mapping[str, Any]) -> IntArray:
    """(m,) predictions of a training that leaves out a single fold."""
    packed = zlib.decompress(base64.b64decode(stored["predicted"]))
    return np.frombuffer(packed, dtype="<u2").astype(np.int64)


def failure_message(outputs: TrialOutputs) -> str:
    """Why the first failed training of a trial failed, or an empty text."""
    failed = (stored for stored in outputs.values() if isinstance(stored, Mapping) and FAILED in stored)
    return next((str(stored[FAILED]) for stored in failed), "")


def _inner_fold(training: TrainingKey, outer: int | None) -> str:
    return str(next(fold for fold in training.left_out if fold != outer))
