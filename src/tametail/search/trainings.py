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
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import METRICS, ConfusionMetric, metrics
from tametail.evaluation.ranking_metrics import auroc, average_precision
from tametail.search.folds import FoldData
from tametail.training.heads.head_experiments import TrialResult
from tametail.training.run import TrainingKey, leave_one_fold_out

LABEL_METRICS = {"mean_average_precision": average_precision, "macro_auroc": auroc}
TrialOutputs = Mapping[str, Any]  # by the names of trainings, see `trial_outputs`
FAILED, SECONDS = "failed", "seconds"


def metric_names(*, multi_label: bool = False) -> list[str]:
    """Metrics that a search can maximise: registered functions of the confusion matrix of which greater is better.

    With several labels per image they are means over the labels of metrics of their ranking.
    """
    if multi_label:
        return list(LABEL_METRICS)
    usable = (metric for metric in METRICS if isinstance(metric, ConfusionMetric))
    return [metric.name for metric in usable if metric.greater_is_better]


@dataclass(frozen=True)
class SelectionMetric:
    """The metric that a search maximises.

    Attributes:
        name: one of `metric_names`, for one or several labels per image.
        order: C class indices from the lowest grade to the highest; None for a metric that needs no order.
    """

    name: str
    order: tuple[int, ...] | None = None

    def value(self, counts: FloatArray) -> float:
        """The value for a confusion matrix (C, C) of the classes in the order of their indices."""
        found = METRICS.get(self.name)
        assert isinstance(found, ConfusionMetric)
        return float(found.function(counts if self.order is None else counts[np.ix_(self.order, self.order)]))

    def value_of_labels(self, target: NDArray[np.float32], logits: NDArray[np.floating]) -> float:
        """The value for labels (m, C), nan where unknown: a mean over those with positives and negatives; nan without any."""
        of_label = LABEL_METRICS[self.name]
        known = ~np.isnan(target)
        values = [
            of_label(label[of] == 1, logit[of])
            for label, logit, of in zip(target.T, logits.T, known.T, strict=True)
        ]
        return float(metrics.mean_over(np.array(values), ~np.isnan(values)))


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

    For a training that leaves out a single fold, also the predicted class of each image. With several labels per image every
    metric of each fold instead, and the logits.

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
    if folds.targets.ndim == 2:
        return _label_outputs(decision, training, left_out, folds, seconds)
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


def _label_outputs(
    logits: NDArray[np.float32],
    training: TrainingKey,
    left_out: Sequence[int],
    folds: FoldData,
    seconds: float,
) -> dict[str, Any]:
    values, images, start = {}, {}, 0
    for fold in left_out:
        target = folds.targets_of(fold)
        of_fold = logits[start : start + len(target)]
        values[str(fold)] = {
            name: SelectionMetric(name).value_of_labels(target, of_fold) for name in LABEL_METRICS
        }
        images[str(fold)] = len(target)
        start += len(target)
    outputs: dict[str, Any] = {"values": values, "images": images, SECONDS: round(seconds, 4)}
    if len(training.left_out) == 1:
        largest = float(np.finfo(np.float16).max)
        packed = zlib.compress(logits.clip(-largest, largest).astype("<f2").tobytes())
        outputs["logits"] = base64.b64encode(packed).decode("ascii")
    return outputs


def trial_score(
    outputs: TrialOutputs, trainings: Sequence[TrainingKey], metric: SelectionMetric, outer: int | None = None
) -> float:
    """The metric on the pooled predictions of a seed's inner folds, averaged over seeds; nan if a training failed.

    With several labels per image it is the mean over the inner folds.

    Args:
        outputs: stored outputs of a trial.
        trainings: those that count.
        metric: what is computed.
        outer: the outer fold of the search, which does not count; None for the search over all folds.
    """
    by_seed: dict[int, FloatArray] = {}
    of_folds: list[float] = []
    for training in trainings:
        stored = outputs.get(training.name)
        if stored is None or FAILED in stored:
            return math.nan
        if "values" in stored:
            of_folds.append(float(stored["values"][_inner_fold(training, outer)][metric.name]))
            continue
        counts = np.asarray(stored["counts"][_inner_fold(training, outer)], dtype=np.float64)
        by_seed[training.seed] = by_seed.get(training.seed, np.zeros_like(counts)) + counts
    return float(np.mean(of_folds or [metric.value(counts) for counts in by_seed.values()]))


def scored_images(outputs: TrialOutputs, trainings: Sequence[TrainingKey], outer: int | None = None) -> int:
    """Number of images that a score is computed on, counted once however many seeds there are."""
    return sum(
        int(np.sum(stored[kind][_inner_fold(training, outer)]))
        for training in trainings
        if training.seed == trainings[0].seed and (stored := outputs.get(training.name, {}))
        for kind in ("counts", "images")
        if kind in stored
    )


def predicted_classes(stored: Mapping[str, Any]) -> IntArray:
    """(m,) predictions of a training that leaves out a single fold."""
    packed = zlib.decompress(base64.b64decode(stored["predicted"]))
    return np.frombuffer(packed, dtype="<u2").astype(np.int64)


def predicted_logits(stored: Mapping[str, Any], labels: int) -> NDArray[np.float32]:
    """(m, C) logits of a training that leaves out a single fold, to the precision of float16."""
    packed = zlib.decompress(base64.b64decode(stored["logits"]))
    return np.frombuffer(packed, dtype="<f2").reshape(-1, labels).astype(np.float32)


def failure_message(outputs: TrialOutputs) -> str:
    """Why the first failed training of a trial failed, or an empty text."""
    failed = (stored for stored in outputs.values() if isinstance(stored, Mapping) and FAILED in stored)
    return next((str(stored[FAILED]) for stored in failed), "")


def _inner_fold(training: TrainingKey, outer: int | None) -> str:
    return str(next(fold for fold in training.left_out if fold != outer))
