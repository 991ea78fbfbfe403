"""How often each of several models is best in bootstrap resamples of the images.

Shape legend: N images, G groups, C classes, M models, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tametail.core.arrays import FloatArray
from tametail.evaluation.bootstrap import group_bootstrap
from tametail.evaluation.correctness import correctness
from tametail.predictions.single_label import Predictions

_DIGITS = 10  # equal scores may differ in their last digits


def probability_best(
    replicates_by_name: Mapping[str, Sequence[Predictions]], *, resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Proportion of group bootstrap resamples in which each model has the highest balanced accuracy; they sum to 1.

    Groups are drawn within strata, as in `bootstrap.group_bootstrap`: a group belongs to the rarest of its classes, so that
    rare classes keep their size. Tied models share the resample. The models are fixed: variation by other training
    images is not included. These are no posterior probabilities: of two equally good models each is best in half of
    the resamples.

    Args:
        replicates_by_name: for each of M models, tables over the same images, e.g. one per seed (folds joined).
        resamples: R.
        seed: of the draws; the same seed gives the same result.

    Raises:
        ValueError: no model, a model without tables, or tables that differ in images, groups, targets or classes.
    """
    counted = correctness(replicates_by_name)
    classes, models = int(counted.of_class.max()) + 1, len(counted.names)
    cell = counted.group * classes + counted.of_class

    def by_group(weights: FloatArray) -> FloatArray:
        found = np.bincount(cell, weights, counted.groups * classes)
        return np.asarray(found.reshape(counted.groups, classes), dtype=np.float64)

    images = by_group(counted.images)
    hits = [
        by_group(np.bincount(counted.cell, right, len(cell)).astype(np.float64)) for right in counted.right
    ]
    size = np.where(images > 0, images.sum(axis=0), np.inf)
    firsts = np.zeros(models)

    def note(summed: FloatArray) -> FloatArray:
        actual, of_models = summed[:, :1], summed[:, 1:]
        recall = np.divide(of_models, actual, out=np.zeros_like(of_models), where=actual > 0)
        score = (recall.sum(axis=2) / (actual > 0).sum(axis=2)).round(_DIGITS)
        best = score == score.max(axis=1, keepdims=True)
        firsts[:] += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
        return np.asarray(score, dtype=np.float64)

    group_bootstrap(
        np.stack([images, *hits], axis=1),
        size.argmin(axis=1).astype(np.int64),
        note,
        resamples=resamples,
        seed=seed,
    )
    return dict(zip(counted.names, (firsts / resamples).tolist(), strict=True))
