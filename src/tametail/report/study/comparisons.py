"""The best loss beside each other one: class by class on the same images, and over seeds and folds.

The best is chosen by the same numbers, so each kind of comparison is corrected for all that it could have shown.
Shape legend: S seeds, F folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tametail.evaluation.mcnemar import ClassTest, mcnemar_by_class
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.evaluation.resampled_t import ResampledT, resampled_t
from tametail.evaluation.verdicts import holm, verdict
from tametail.predictions.single_label import Predictions

Tables = Mapping[
    str, Sequence[Predictions]
]  # of each loss, the best first, one table per seed with the folds joined


@dataclass(frozen=True)
class RunComparison:
    """The best loss beside another over seeds and folds; ``p_holm`` is corrected over all pairs of losses."""

    found: ResampledT
    p_holm: float


def by_class(tables: Tables) -> dict[str, tuple[ClassTest, ...]]:
    """McNemar's test of every class, for the best loss beside each other one; Holm over all of these tests."""
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


def across_runs(tables: Tables, train_images: int) -> dict[str, RunComparison]:
    """The corrected resampled t test over seeds and folds, for the best loss beside each other one.

    Args:
        train_images: of all folds together, those that were held out in no run included.

    Returns:
        Nothing where a single fold was held out: seeds alone do not show what another training set would change.
    """
    names = tuple(tables)
    scores = {name: run_scores(of_method) for name, of_method in tables.items()}
    folds = scores[names[0]].shape[1]
    if folds < 2:
        return {}
    held_out = len(tables[names[0]][0]) / folds
    pairs = {
        (a, b): resampled_t(scores[a], scores[b], train_images - held_out, held_out)
        for a, b in combinations(names, 2)
    }
    corrected = dict(zip(pairs, holm([found.p for found in pairs.values()]).tolist(), strict=True))
    best = names[0]
    return {other: RunComparison(pairs[best, other], corrected[best, other]) for other in names[1:]}


def run_scores(replicates: Sequence[Predictions]) -> NDArray[np.float64]:
    """(S, F) balanced accuracy of each run on its own fold."""
    return np.array([[_score(table, fold) for fold in np.unique(table.fold)] for table in replicates])


def _score(table: Predictions, fold: int) -> float:
    own = table.fold == fold
    matrix = confusion_matrix(table.target[own], table.predicted[own], len(table.class_names))
    return float(balanced_accuracy(matrix))
