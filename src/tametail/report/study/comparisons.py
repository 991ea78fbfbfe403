"""The best method compared with each other one: class by class on the same images, and over repeats and folds.

The best method was chosen by the same scores, so p values are corrected for all comparisons of a kind.
Shape legend: S repeats, F folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from tametail.core.arrays import FloatArray
from tametail.evaluation import Estimate
from tametail.evaluation.label_thresholds import macro_average_precision
from tametail.evaluation.mcnemar import ClassTest, mcnemar_by_class
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.evaluation.resampled_t import ResampledT, resampled_t
from tametail.evaluation.significance import SIGNIFICANCE_LEVEL, holm, verdict
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions

# By method, the best first: one table of all folds per repeat.
Tables = Mapping[str, Sequence[Predictions]]
LabelTables = Mapping[str, Sequence[LabelPredictions]]


@dataclass(frozen=True)
class RunComparison:
    """The best method compared with another over repeats and folds; ``p_holm`` is corrected over all pairs of methods."""

    found: ResampledT
    p_holm: float

    @property
    def difference(self) -> Estimate:
        """Score of the best method minus that of the other, with its 95 % interval; n counts runs."""
        return Estimate(self.found.difference, self.found.low, self.found.high, self.found.runs)

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no significant difference``; ``untested`` where p is undefined."""
        if np.isnan(self.found.p):
            return "untested"
        if self.p_holm > SIGNIFICANCE_LEVEL:
            return "no significant difference"
        return "better" if self.found.difference > 0 else "worse"


def compare_classes(tables: Tables) -> dict[str, tuple[ClassTest, ...]]:
    """McNemar's test of every class, the best method against each other one, Holm-corrected over all of these tests."""
    best, *others = tables
    found = {other: mcnemar_by_class(tables[best], tables[other]) for other in others}
    corrected = iter(holm([test.p for tests in found.values() for test in tests]).tolist())
    return {
        other: tuple(_corrected(test, next(corrected)) for test in tests) for other, tests in found.items()
    }


def _corrected(test: ClassTest, p_holm: float) -> ClassTest:
    if test.verdict == "absent":
        return test
    return replace(test, p_holm=p_holm, verdict=verdict(test.difference, p_holm))


def compare_runs(
    tables: Tables | LabelTables, train_images: int, evaluated_images: int
) -> dict[str, RunComparison]:
    """The corrected resampled t test over repeats and folds, the best method against each other one.

    Args:
        tables: by method.
        train_images: number of training images over all folds, including folds that were never held out.
        evaluated_images: number of images in all held-out folds; rows of the tables may be groups of them.

    Returns:
        Empty if a fold has no label with positive and negative images, or if only one fold was held out: repeats alone do not
        vary the training set.
    """
    names = tuple(tables)
    scores = {name: run_scores(of_method) for name, of_method in tables.items()}
    folds = scores[names[0]].shape[1]
    if folds < 2 or not all(np.isfinite(of_method).all() for of_method in scores.values()):
        return {}
    held_out = evaluated_images / folds
    pairs = {
        (a, b): resampled_t(scores[a], scores[b], train_images - held_out, held_out)
        for a, b in combinations(names, 2)
    }
    corrected = dict(zip(pairs, holm([found.p for found in pairs.values()]).tolist(), strict=True))
    best = names[0]
    return {other: RunComparison(pairs[best, other], corrected[best, other]) for other in names[1:]}


def run_scores(replicates: Sequence[Predictions] | Sequence[LabelPredictions]) -> FloatArray:
    """(S, F) balanced accuracy, or mean average precision, of each run on its own fold."""
    return np.array([[_score(table, fold) for fold in np.unique(table.fold)] for table in replicates])


def _score(table: Predictions | LabelPredictions, fold: int) -> float:
    own = table.fold == fold
    if isinstance(table, LabelPredictions):
        return macro_average_precision(table.take(own))
    matrix = confusion_matrix(table.target[own], table.predicted[own], len(table.class_names))
    return float(balanced_accuracy(matrix))
