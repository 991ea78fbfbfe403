"""What each search chooses, and how good that is on the images that it never saw.

Shape legend: N images of the table, n of its training set, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import TametailError
from tametail.data import ImageTable, Splits
from tametail.evaluation import Estimate, metrics
from tametail.evaluation.evaluate import Evaluation, evaluate
from tametail.evaluation.paired import Paired, paired_table
from tametail.predictions.single_label import Predictions, concatenate, exclusive
from tametail.search.folds import Folds, training_set
from tametail.search.nested_search import TrialRecord
from tametail.search.objective import Runner
from tametail.search.space import Space
from tametail.search.trainings import METRICS, TrainingKey, predicted_classes, trainings_without_one
from tametail.training.heads.head_experiments import Trial, TrialResult

_MOST_BESIDE = 200  # trials that are tested against the best one
_RESAMPLES = 2000  # of each of these tests: enough for 5 %
_ESTIMATES = {
    "balanced_accuracy": lambda found: found.balanced_accuracy,
    "macro_f1": lambda found: found.macro_f1,
    "accuracy": lambda found: found.accuracy,
    "mcc": lambda found: found.mcc,
    "kappa": lambda found: found.kappa,
}


@dataclass(frozen=True)
class Nested:
    """The tuned method and the same at its defaults, on images that neither its training nor its choice saw.

    Attributes:
        tuned, default: their evaluations.
        paired: balanced accuracy of the one beside the other.
        by_fold: of each outer fold the metric there, tuned and at the defaults, mean over seeds.
    """

    tuned: Evaluation
    default: Evaluation
    paired: Paired
    by_fold: Mapping[int, tuple[float, float]]


def best_of(trials: Sequence[TrialRecord], outer: int | None) -> TrialRecord:
    """The trial of the highest score of a search; of equal ones the first.

    Raises:
        TametailError: none has a score.
    """
    own = [trial for trial in trials if trial.outer == outer and trial.state == "complete"]
    if not own:
        why = next(
            (trial.message for trial in trials if trial.outer == outer and trial.message),
            "no reason is known",
        )
        raise TametailError(
            f"no trial could be trained to its end, so there is nothing to choose from: {why}. Change --space, the learning rate "
            "(--lr) or the method"
        )
    return max(own, key=lambda trial: (trial.score, -trial.number))


def nested(
    chosen: Mapping[int, TrialRecord],
    space: Space,
    folds: Folds,
    table: ImageTable,
    splits: Splits,
    seeds: Sequence[int],
    metric: str,
    runner: Runner,
) -> Nested:
    """Train on all folds but one what was chosen without that one, and predict it once; and so for each fold.

    Args:
        chosen: the choice of each outer fold.

    Raises:
        TametailError: one of these trainings failed.
    """
    tuned: dict[int, list[Predictions]] = {seed: [] for seed in seeds}
    default: dict[int, list[Predictions]] = {seed: [] for seed in seeds}
    for training in trainings_without_one(folds.names, seeds):
        (fold,) = training.out
        trials = [space.trial(chosen[fold].values), space.default]
        results = runner(trials, folds.trial_data(training.out, training.read), training)
        for tables, trial, result in zip((tuned, default), trials, results, strict=True):
            tables[training.seed].append(_predictions(result, trial, training, table, splits))
    joined = [[concatenate(of_seed) for of_seed in tables.values()] for tables in (tuned, default)]
    return Nested(
        evaluate(joined[0], ordered=True),
        evaluate(joined[1], ordered=True),
        paired_table({"tuned": joined[0], "default": joined[1]}).pair(0, 1),
        {
            fold: (_on_fold(joined[0], fold, metric), _on_fold(joined[1], fold, metric))
            for fold in folds.names
        },
    )


def estimate_of(evaluation: Evaluation, metric: str) -> Estimate:
    """The metric that was searched by, with its interval."""
    found: Estimate = _ESTIMATES[metric](evaluation)
    return found


def indistinguishable(
    trials: Sequence[TrialRecord], best: TrialRecord, table: ImageTable, splits: Splits, seeds: Sequence[int]
) -> list[TrialRecord]:
    """The trials of the search over all folds that are not significantly different from its best one, it among them.

    By the paired test of balanced accuracy on the same images, each by itself at 5 %; at most 200 of the best are tested.
    """
    own = sorted(
        (trial for trial in trials if trial.outer is None and trial.state == "complete"),
        key=lambda trial: (-trial.score, trial.number),
    )[:_MOST_BESIDE]
    first = _as_tables(best, table, splits, seeds)
    found = []
    for trial in own:
        if trial.number != best.number:
            both = {"best": first, "other": _as_tables(trial, table, splits, seeds)}
            pair = paired_table(both, resamples=_RESAMPLES).pair(0, 1)
            if pair.verdict != "no significant difference":
                continue
        found.append(trial)
    return found


def _as_tables(
    trial: TrialRecord, table: ImageTable, splits: Splits, seeds: Sequence[int]
) -> list[Predictions]:
    """A trial's decisions out of fold, as tables in which the class that was decided for has logit 1."""
    classes, found = len(table.class_names), []
    for seed in seeds:
        rows = training_set(splits)
        decided = np.zeros(len(splits.fold), dtype=np.int64)
        for fold in np.unique(splits.fold[rows]).tolist():
            of_one = trial.found[TrainingKey(seed, (fold,), (fold,)).name]
            decided[splits.fold == fold] = predicted_classes(of_one)
        logits = np.eye(classes, dtype=np.float32)[decided[rows]]
        found.append(_table(table, splits, rows, logits, "softmax", None))
    return found


def _predictions(
    result: TrialResult, trial: Trial, training: TrainingKey, table: ImageTable, splits: Splits
) -> Predictions:
    if result.outputs is None:
        raise TametailError(
            f"{trial.method.text} could not be trained without fold {training.out[0]}: {result.message}. Change --space, the "
            "learning rate (--lr) or the method"
        )
    rows = np.flatnonzero(splits.fold == training.out[0])
    posterior = exclusive(result.decision_rule.posterior(result.outputs).float().numpy()).astype(np.float32)
    return _table(table, splits, rows, result.decision(), result.decision_rule.family, posterior)


def _table(
    table: ImageTable,
    splits: Splits,
    rows: NDArray[np.int64],
    logits: NDArray[np.float32],
    link: str,
    posterior: NDArray[np.float32] | None,
) -> Predictions:
    return Predictions(
        table.images[rows],
        table.groups[rows],
        table.targets[rows],
        splits.fold[rows],
        logits,
        table.class_names,
        "sigmoid" if link == "sigmoid" else "softmax",
        posterior,
    )


def _on_fold(replicates: Sequence[Predictions], fold: int, metric: str) -> float:
    values = []
    for table in replicates:
        own = table.fold == fold
        counts = metrics.confusion_matrix(table.target[own], table.predicted[own], len(table.class_names))
        values.append(float(METRICS[metric](counts)))
    return float(np.mean(values))
