"""The trial that each search selects, and its performance on images that took no part in the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from torch import Tensor

from tametail.core.arrays import IntArray, TextArray
from tametail.core.errors import TametailError
from tametail.data import ImageTable, Splits
from tametail.evaluation import metrics
from tametail.evaluation.evaluate import Evaluation, evaluate, evaluate_labels
from tametail.evaluation.paired import Paired, paired_table
from tametail.evaluation.paired_labels import paired_label_table
from tametail.predictions.multi_label import LabelPredictions, concatenate_labels
from tametail.predictions.single_label import Predictions, concatenate
from tametail.search.folds import FoldData, rows_of_folds
from tametail.search.nested_search import TrialRecord
from tametail.search.objective import Runner
from tametail.search.space import Space
from tametail.search.trainings import SelectionMetric, predicted_classes, predicted_logits
from tametail.training.heads.head_experiments import Trial, TrialResult
from tametail.training.multi_label import make_label_predictions
from tametail.training.run import TrainingKey, leave_one_fold_out

_MAX_TESTED = 200  # trials that are tested against the best one
_RESAMPLES = 2000  # of each of these tests: enough for a level of 5 %


@dataclass(frozen=True)
class NestedEstimate:
    """The tuned method and the same method at its defaults, on images that took no part in training or selection.

    Attributes:
        tuned, default: their evaluations.
        paired: paired test of balanced accuracy, or of mean average precision for several labels, tuned minus default.
        by_fold: for each outer fold the metric of tuned and default, averaged over seeds.
    """

    tuned: Evaluation
    default: Evaluation
    paired: Paired
    by_fold: Mapping[int, tuple[float, float]]


def best_of(trials: Sequence[TrialRecord], outer: int | None) -> TrialRecord:
    """The trial of a search with the highest score; the first one if several share it.

    Raises:
        TametailError: no trial has a score.
    """
    complete = [trial for trial in trials if trial.outer == outer and trial.state == "complete"]
    if not complete:
        messages = (trial.message for trial in trials if trial.outer == outer and trial.message)
        raise TametailError(
            f"no trial finished its training, so none can be selected: {next(messages, 'unknown reason')}. Change --space, the "
            "learning rate (--lr) or the method"
        )
    return max(complete, key=lambda trial: (trial.score, -trial.number))


def nested_estimate(
    selected: Mapping[int, TrialRecord],
    space: Space,
    folds: FoldData,
    table: ImageTable,
    splits: Splits,
    seeds: Sequence[int],
    metric: SelectionMetric,
    runner: Runner,
) -> NestedEstimate:
    """For each outer fold, train on the other folds what was selected on them, and predict the outer fold once.

    Args:
        selected: the trial selected for each outer fold.

    Raises:
        TametailError: one of these trainings failed.
    """
    if table.multi_label:
        return _nested_labels(selected, space, folds, table, splits, seeds, metric, runner)
    tuned: dict[int, list[Predictions]] = {seed: [] for seed in seeds}
    default: dict[int, list[Predictions]] = {seed: [] for seed in seeds}
    for training in leave_one_fold_out(folds.folds, seeds):
        (fold,) = training.left_out
        trials = [space.trial(selected[fold].values), space.default]
        results = runner(trials, folds.trial_data([fold]), training, [fold])
        for predictions, trial, result in zip((tuned, default), trials, results, strict=True):
            predictions[training.seed].append(_predictions(result, trial, training, table, splits))
    joined = [[concatenate(parts) for parts in predictions.values()] for predictions in (tuned, default)]
    paired = paired_table(dict(zip(("tuned", "default"), joined, strict=True))).pair(0, 1)
    by_fold = {k: (_on_fold(joined[0], k, metric), _on_fold(joined[1], k, metric)) for k in folds.folds}
    order = [table.class_names[index] for index in metric.order or ()]
    tuned_result, default_result = (evaluate(tables, class_order=order) for tables in joined)
    return NestedEstimate(tuned_result, default_result, paired, by_fold)


def _nested_labels(
    selected: Mapping[int, TrialRecord],
    space: Space,
    folds: FoldData,
    table: ImageTable,
    splits: Splits,
    seeds: Sequence[int],
    metric: SelectionMetric,
    runner: Runner,
) -> NestedEstimate:
    """The same for images that may have several labels."""
    found: dict[str, dict[int, list[LabelPredictions]]] = {
        name: {seed: [] for seed in seeds} for name in ("tuned", "default")
    }
    for training in leave_one_fold_out(folds.folds, seeds):
        (fold,) = training.left_out
        trials = [space.trial(selected[fold].values), space.default]
        results = runner(trials, folds.trial_data([fold]), training, [fold])
        rows = np.flatnonzero(splits.fold == fold)
        for name, trial, result in zip(found, trials, results, strict=True):
            outputs = _outputs(result, trial, fold).numpy()
            predictions = make_label_predictions(outputs, result.decision_rule, table, rows, fold)
            found[name][training.seed].append(predictions)
    joined = {name: [concatenate_labels(parts) for parts in of.values()] for name, of in found.items()}
    by_fold = {
        k: (_labels_on_fold(joined["tuned"], k, metric), _labels_on_fold(joined["default"], k, metric))
        for k in folds.folds
    }
    tuned, default = (evaluate_labels(tables) for tables in joined.values())
    return NestedEstimate(tuned, default, paired_label_table(joined).pair(0, 1), by_fold)


def indistinguishable(
    trials: Sequence[TrialRecord], best: TrialRecord, table: ImageTable, splits: Splits, seeds: Sequence[int]
) -> list[TrialRecord]:
    """The trials over all folds that do not differ significantly from the best one, including it.

    Uses the paired test of balanced accuracy (of several labels: mean average precision) on the same images, each at a level of 5 % without correction, for at most the
    200 best trials.
    """
    complete = [trial for trial in trials if trial.outer is None and trial.state == "complete"]
    first = _stored(best, table, splits, seeds)
    found = []
    for trial in sorted(complete, key=lambda trial: (-trial.score, trial.number))[:_MAX_TESTED]:
        if trial.number != best.number:
            pair = _pair({"best": first, "other": _stored(trial, table, splits, seeds)}, table)
            if pair.verdict != "no significant difference":
                continue
        found.append(trial)
    return found


def _stored(trial: TrialRecord, table: ImageTable, splits: Splits, seeds: Sequence[int]) -> list[Any]:
    """Out-of-fold predictions of a trial as they are stored, one table for each seed."""
    return (_label_logits if table.multi_label else _decisions)(trial, table, splits, seeds)


def _pair(both: Mapping[str, list[Any]], table: ImageTable) -> Paired:
    tests = paired_label_table(both) if table.multi_label else paired_table(both, resamples=_RESAMPLES)
    return tests.pair(0, 1)


def _label_logits(
    trial: TrialRecord, table: ImageTable, splits: Splits, seeds: Sequence[int]
) -> list[LabelPredictions]:
    """Out-of-fold logits of a trial; probabilities are not stored, and are those of a sigmoid here."""
    tables, labels, unknown = [], table.labels, table.unknown
    for seed in seeds:
        parts = []
        for fold in np.unique(splits.fold[rows_of_folds(splits)]).tolist():
            rows = np.flatnonzero(splits.fold == fold)
            stored = trial.outputs[TrainingKey(seed, (fold,)).name]
            logits = predicted_logits(stored, len(table.class_names))
            images, groups, folds = table.images[rows], table.groups[rows], splits.fold[rows]
            p = special.expit(logits)
            parts.append(
                LabelPredictions(
                    images, groups, labels[rows], folds, logits, table.class_names, p, unknown[rows]
                )
            )
        tables.append(concatenate_labels(parts))
    return tables


def _decisions(
    trial: TrialRecord, table: ImageTable, splits: Splits, seeds: Sequence[int]
) -> list[Predictions]:
    """Out-of-fold decisions of a trial as one-hot logits, one table for each seed."""
    rows, tables = rows_of_folds(splits), []
    for seed in seeds:
        decided = np.zeros(len(splits.fold), dtype=np.int64)
        for fold in np.unique(splits.fold[rows]).tolist():
            decided[splits.fold == fold] = predicted_classes(trial.outputs[TrainingKey(seed, (fold,)).name])
        logits = np.eye(len(table.class_names), dtype=np.float32)[decided[rows]]
        tables.append(Predictions(*_columns(table, splits, rows), logits, table.class_names, "softmax"))
    return tables


def _predictions(
    result: TrialResult, trial: Trial, training: TrainingKey, table: ImageTable, splits: Splits
) -> Predictions:
    (fold,) = training.left_out
    _outputs(result, trial, fold)
    rows = np.flatnonzero(splits.fold == fold)
    rule, columns = result.decision_rule, _columns(table, splits, rows)
    return Predictions(*columns, result.decision(), table.class_names, rule.family, result.posterior())


def _outputs(result: TrialResult, trial: Trial, fold: int) -> Tensor:
    if result.outputs is None:
        raise TametailError(
            f"{trial.method.text} could not be trained without fold {fold}: {result.message}. Change --space, the "
            "learning rate (--lr) or the method"
        )
    return result.outputs


def _labels_on_fold(replicates: Sequence[LabelPredictions], fold: int, metric: SelectionMetric) -> float:
    values = []
    for table in (replicate.take(replicate.fold == fold) for replicate in replicates):
        target = np.where(table.known, table.labels, np.nan).astype(np.float32)
        values.append(metric.value_of_labels(target, table.logits))
    return float(np.mean(values))


def _columns(
    table: ImageTable, splits: Splits, rows: IntArray
) -> tuple[TextArray, TextArray, IntArray, IntArray]:
    """Images, groups, targets and folds of some rows."""
    return table.images[rows], table.groups[rows], table.targets[rows], splits.fold[rows]


def _on_fold(replicates: Sequence[Predictions], fold: int, metric: SelectionMetric) -> float:
    values = []
    for table in (replicate.take(replicate.fold == fold) for replicate in replicates):
        counts = metrics.confusion_matrix(table.target, table.predicted, len(table.class_names))
        values.append(metric.value(counts.astype(np.float64)))
    return float(np.mean(values))
