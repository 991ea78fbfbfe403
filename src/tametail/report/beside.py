"""The best loss beside each other one: class by class on the same images, and over seeds and folds.

Shape legend: S seeds, F folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tametail.evaluation.mcnemar import ClassTest, mcnemar_by_class
from tametail.evaluation.metrics import balanced_accuracy, confusion_matrix
from tametail.evaluation.resampled_t import ResampledT, resampled_t
from tametail.predictions import Predictions

Tables = Mapping[
    str, Sequence[Predictions]
]  # of each loss, the best first, one table per seed with the folds joined


def by_class(tables: Tables) -> dict[str, tuple[ClassTest, ...]]:
    """McNemar's test of every class, for the best loss beside each other one."""
    best, *others = tables
    return {other: mcnemar_by_class(tables[best], tables[other]) for other in others}


def over_runs(tables: Tables, train_images: int) -> dict[str, ResampledT]:
    """The corrected resampled t test over seeds and folds, for the best loss beside each other one.

    Args:
        train_images: of all folds together, those that were held out in no run included.

    Returns:
        Nothing where there is one run to a loss: no spread to judge by.
    """
    best, *others = tables
    scores = {name: run_scores(of_loss) for name, of_loss in tables.items()}
    if scores[best].size < 2:
        return {}
    held_out = len(tables[best][0]) / scores[best].shape[1]
    return {
        other: resampled_t(scores[best], scores[other], train_images - held_out, held_out) for other in others
    }


def run_scores(replicates: Sequence[Predictions]) -> NDArray[np.float64]:
    """(S, F) balanced accuracy of each run on its own fold."""
    return np.array([[_score(table, fold) for fold in np.unique(table.fold)] for table in replicates])


def _score(table: Predictions, fold: int) -> float:
    own = table.fold == fold
    matrix = confusion_matrix(table.target[own], table.predicted[own], len(table.class_names))
    return float(balanced_accuracy(matrix))
