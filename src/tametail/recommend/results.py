"""Everything that a recommendation is based on, computed from the outputs of all trainings. No torch.

Shape legend: S seeds, n images of the training set, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tametail.core.arrays import FloatArray, IntArray, TextArray
from tametail.evaluation import Evaluation, evaluate
from tametail.evaluation.paired import Paired, against_one, probability_best
from tametail.predictions.single_label import Predictions
from tametail.recommend.candidates import BASELINE, Candidate
from tametail.recommend.nested import (
    AllOutputs,
    TunedCandidate,
    inner_logits,
    out_of_fold_logits,
    tune_by_fold,
    tune_on_all,
)
from tametail.recommend.selection import Selection, select

_NESTED = "nested selection"


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
class CandidateResult:
    """A candidate with its evaluation.

    Attributes:
        result: cross-validated, with recall of many-, medium- and few-shot classes.
        share_best: share of bootstrap resamples of the groups in which it is the best.
        by_fold: what was tuned for each fold.
        final: what is tuned on all folds together, for future images.
    """

    candidate: Candidate
    result: Evaluation
    share_best: float
    by_fold: tuple[TunedCandidate, ...]
    final: TunedCandidate


@dataclass(frozen=True, eq=False)
class NestedSelection:
    """The evaluation of a selection procedure: for each fold, select on the other folds, evaluate on that fold.

    Attributes:
        result: of all folds together.
        selected: the candidate selected for each fold.
        gain: paired test against plain cross-entropy on the same images; a single comparison, without correction.
    """

    result: Evaluation
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
        selection: the recommended candidate, and the tests.
        candidates: results by name, in the order of the ranking.
        nested: nested estimate of the recommendation.
        nested_highest: nested estimate of taking the candidate with the highest balanced accuracy instead.
        failed: by the candidate's name, why it has no result.
    """

    selection: Selection
    candidates: Mapping[str, CandidateResult]
    nested: NestedSelection
    nested_highest: NestedSelection
    failed: Mapping[str, str]

    @property
    def recommended(self) -> CandidateResult:
        """The recommended candidate."""
        return self.candidates[self.selection.recommended]

    @property
    def baseline(self) -> Evaluation:
        """The evaluation of plain cross-entropy."""
        return self.candidates[BASELINE].result

    @property
    def share_adjusting_best(self) -> float:
        """Share of resamples in which a candidate that adjusts for class imbalance is the best."""
        return sum(one.share_best for one in self.candidates.values() if one.candidate.adjusts)


def evaluate_candidates(
    candidates: Sequence[Candidate],
    outputs: AllOutputs,
    images: TrainingImages,
    failed: Mapping[str, str],
    advance: Callable[[int], None] = lambda _: None,
) -> RecommendationResults:
    """Evaluate every candidate by cross-validation, select one, and estimate the performance of such a selection.

    Args:
        candidates: those with outputs in every training, including plain cross-entropy.
        failed: those left out, with the reason.
        advance: called with 1 after each fold of the nested estimate.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    by_fold = {name: tune_by_fold(candidate, outputs) for name, candidate in by_name.items()}
    logits = {name: out_of_fold_logits(outputs, tuned) for name, tuned in by_fold.items()}
    all_rows = np.arange(len(outputs.target))
    tables = {name: _tables(outputs, images, all_rows, values) for name, values in logits.items()}
    selection = select(candidates, tables)
    counts = np.bincount(outputs.target, minlength=outputs.classes).tolist()
    share_best = probability_best(tables)
    results = {
        name: CandidateResult(
            by_name[name],
            evaluate(tables[name], train_counts=counts),
            share_best[name],
            tuple(by_fold[name]),
            tune_on_all(by_name[name], outputs),
        )
        for name in selection.ranking
    }
    without = []
    for outer in range(outputs.folds):
        without.append(_select_without(candidates, outputs, images, outer))
        advance(1)
    nested, nested_highest = (
        _nested_selection(outputs, images, logits, tables[BASELINE], selected)
        for selected in ([one.recommended for one in without], [one.best for one in without])
    )
    return RecommendationResults(selection, results, nested, nested_highest, failed)


def _select_without(
    candidates: Sequence[Candidate], outputs: AllOutputs, images: TrainingImages, outer: int
) -> Selection:
    """The selection on the folds other than ``outer``, from trainings that have not seen it."""
    rows = np.flatnonzero(outputs.fold != outer)
    logits = {candidate.name: inner_logits(candidate, outputs, outer) for candidate in candidates}
    return select(candidates, {name: _tables(outputs, images, rows, z) for name, z in logits.items()})


def _nested_selection(
    outputs: AllOutputs,
    images: TrainingImages,
    logits: Mapping[str, FloatArray],
    baseline: Sequence[Predictions],
    selected: Sequence[str],
) -> NestedSelection:
    """Evaluate on each fold the candidate selected for it."""
    joined = np.empty_like(logits[BASELINE])
    for fold, name in enumerate(selected):
        rows = outputs.fold == fold
        joined[:, rows] = logits[name][:, rows]
    tables = _tables(outputs, images, np.arange(len(outputs.target)), joined)
    gain = against_one({_NESTED: tables, BASELINE: baseline}, _NESTED)[BASELINE]
    return NestedSelection(evaluate(tables), tuple(selected), gain)


def _tables(
    outputs: AllOutputs, images: TrainingImages, rows: IntArray, logits: FloatArray
) -> list[Predictions]:
    """One table for each seed, from logits (S, rows, C). Only their argmax is used."""
    columns = images.image[rows], images.group[rows], outputs.target[rows], outputs.fold[rows]
    by_seed, names = logits.astype(np.float32), images.class_names
    return [Predictions(*columns, of_seed, names, "softmax") for of_seed in by_seed]
