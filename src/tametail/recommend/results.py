"""Everything that a recommendation is based on, computed from the outputs of all trainings. No torch.

Shape legend: S seeds, n images of the training set, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tametail.core.arrays import IntArray, TextArray
from tametail.evaluation import Estimate, Evaluation, evaluate
from tametail.evaluation.log_loss import log_loss
from tametail.evaluation.paired import Paired
from tametail.predictions.single_label import Predictions
from tametail.recommend.candidates import BASELINE, Candidate
from tametail.recommend.comparisons import against_one, probability_best
from tametail.recommend.nested import (
    AllOutputs,
    Predicted,
    TunedCandidate,
    inner_predictions,
    out_of_fold,
    tune_by_fold,
    tune_on_all,
)
from tametail.recommend.objective import Objective
from tametail.recommend.selection import Choice, Selection, choose, select

_NESTED = "nested selection"
SHOWN = ("balanced_accuracy", "macro_f1", "accuracy", "log_loss")  # metrics, whatever the objective


def shown(objective: Objective) -> tuple[str, ...]:
    """The metrics that are shown: ``SHOWN``, after the objective if it is none of them."""
    return SHOWN if objective.name in SHOWN else (objective.name, *SHOWN)


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The n images of the training set, in the order of the rows of the outputs.

    Attributes:
        image, group: (n,).
        class_names: C.
    """

    image: TextArray
    group: TextArray
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Predictions of all images, evaluated.

    Attributes:
        result: metrics of the decisions.
        log_loss: of the probabilities; lower is better.
        in_objective: the objective, if it is none of ``SHOWN``.
    """

    result: Evaluation
    log_loss: Estimate
    in_objective: Estimate | None

    def estimate(self, metric: str) -> Estimate:
        """The estimate of one of `shown`."""
        if metric in SHOWN or self.in_objective is None:
            return self.log_loss if metric == "log_loss" else self.result[metric]
        return self.in_objective


@dataclass(frozen=True, eq=False)
class CandidateResult(Evaluated):
    """A candidate with its evaluation: cross-validated, with recall of many-, medium- and few-shot classes.

    Attributes:
        share_best: share of bootstrap resamples of the groups in which it is the best.
        by_fold: what was tuned for each fold.
        final: what is tuned on all folds together, for future images.
    """

    candidate: Candidate
    share_best: float
    by_fold: tuple[TunedCandidate, ...]
    final: TunedCandidate


@dataclass(frozen=True, eq=False)
class NestedSelection(Evaluated):
    """The evaluation of a selection procedure: for each fold, select on the other folds, evaluate on that fold.

    Attributes:
        selected: the candidate selected for each fold.
        gain: comparison with plain cross-entropy on the same images in the objective, above 0 where the selection is better;
            a single one, without correction.
    """

    selected: tuple[str, ...]
    gain: Paired

    @property
    def counts(self) -> list[tuple[str, int]]:
        """The selected candidates with the number of folds, the most frequent first."""
        return Counter(self.selected).most_common()


@dataclass(frozen=True, eq=False)
class RecommendationResults:
    """A recommendation and what it is based on.

    Attributes:
        objective: what everything is chosen for.
        selection: the recommended candidate, and the tests.
        candidates: results by name, in the order of the ranking.
        nested: nested estimate of the recommendation.
        nested_best: nested estimate of taking the candidate with the best value of the objective instead.
        failed: by the candidate's name, why it has no result.
    """

    objective: Objective
    selection: Selection
    candidates: Mapping[str, CandidateResult]
    nested: NestedSelection
    nested_best: NestedSelection
    failed: Mapping[str, str]

    @property
    def recommended(self) -> CandidateResult:
        """The recommended candidate."""
        return self.candidates[self.selection.recommended]

    @property
    def baseline(self) -> CandidateResult:
        """Plain cross-entropy."""
        return self.candidates[BASELINE]

    @property
    def share_adjusting_best(self) -> float:
        """Share of resamples in which a candidate that adjusts for class imbalance is the best."""
        return sum(one.share_best for one in self.candidates.values() if one.candidate.adjusts)


def evaluate_candidates(
    candidates: Sequence[Candidate],
    outputs: AllOutputs,
    images: TrainingImages,
    failed: Mapping[str, str],
    objective: Objective,
    advance: Callable[[int], None] = lambda _: None,
) -> RecommendationResults:
    """Evaluate every candidate by cross-validation, select one, and estimate the performance of such a selection.

    Args:
        candidates: those with outputs in every training, including plain cross-entropy.
        failed: those left out, with the reason.
        objective: what parameters and the candidate are chosen for.
        advance: called with 1 after each fold of the nested estimate.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    by_fold = {name: tune_by_fold(candidate, outputs, objective) for name, candidate in by_name.items()}
    predicted = {name: out_of_fold(outputs, tuned) for name, tuned in by_fold.items()}
    all_rows = np.arange(len(outputs.target))
    tables = {name: _tables(outputs, images, all_rows, values) for name, values in predicted.items()}
    selection = select(candidates, tables, objective)
    counts = np.bincount(outputs.target, minlength=outputs.classes).tolist()
    share_best = probability_best(tables, objective)
    results = {
        name: CandidateResult(
            evaluate(tables[name], train_counts=counts),
            log_loss(tables[name]),
            objective.estimate(tables[name]),
            by_name[name],
            share_best[name],
            tuple(by_fold[name]),
            tune_on_all(by_name[name], outputs, objective),
        )
        for name in selection.ranking
    }
    without = []
    for outer in range(outputs.folds):
        without.append(_choose_without(candidates, outputs, images, objective, outer))
        advance(1)
    nested, nested_best = (
        _nested_selection(outputs, images, predicted, tables[BASELINE], selected, objective)
        for selected in ([one.recommended for one in without], [one.best for one in without])
    )
    return RecommendationResults(objective, selection, results, nested, nested_best, failed)


def _choose_without(
    candidates: Sequence[Candidate],
    outputs: AllOutputs,
    images: TrainingImages,
    objective: Objective,
    outer: int,
) -> Choice:
    """The choice on the folds other than ``outer``, from trainings that have not seen it."""
    rows = np.flatnonzero(outputs.fold != outer)
    tables = {
        one.name: _tables(outputs, images, rows, inner_predictions(one, outputs, objective, outer))
        for one in candidates
    }
    return choose(candidates, tables, objective)


def _nested_selection(
    outputs: AllOutputs,
    images: TrainingImages,
    predicted: Mapping[str, Predicted],
    baseline: Sequence[Predictions],
    selected: Sequence[str],
    objective: Objective,
) -> NestedSelection:
    """Evaluate on each fold the candidate selected for it."""
    fold_rows = [outputs.fold == fold for fold in range(outputs.folds)]
    joined = Predicted(*(values.copy() for values in predicted[BASELINE]))
    for rows, name in zip(fold_rows, selected, strict=True):
        for values, of_candidate in zip(joined, predicted[name], strict=True):
            values[:, rows] = of_candidate[:, rows]
    tables = _tables(outputs, images, np.arange(len(outputs.target)), joined)
    gain = against_one({_NESTED: tables, BASELINE: baseline}, _NESTED, objective)[BASELINE]
    return NestedSelection(
        evaluate(tables), log_loss(tables), objective.estimate(tables), tuple(selected), gain
    )


def _tables(
    outputs: AllOutputs, images: TrainingImages, rows: IntArray, predicted: Predicted
) -> list[Predictions]:
    """One table for each seed, from outputs (S, rows, C)."""
    columns = images.image[rows], images.group[rows], outputs.target[rows], outputs.fold[rows]
    by_seed = zip(*(values.astype(np.float32) for values in predicted), strict=True)
    names = images.class_names
    return [Predictions(*columns, logits, names, "softmax", posterior) for logits, posterior in by_seed]
