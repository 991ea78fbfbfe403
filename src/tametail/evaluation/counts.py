"""Images per group, class and replicate: all that the metrics of a decision, and their intervals, need to know.

Shape legend: S replicates, N images, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.predictions.single_label import Predictions

SmallInts = NDArray[np.int32]


@dataclass(frozen=True)
class Counts:
    """Images of each group.

    Attributes:
        actual: (G, C) of each class.
        predicted: (S, G, C) predicted as each class.
        hits: (S, G, C) of each class and predicted as it.
        distance: (S, G) sum of the squared distances from the true class to the predicted one, in classes.
        furthest: the largest distance of all, in classes.
        ever_predicted: (C,) images that at least one replicate predicts as the class.
    """

    actual: SmallInts
    predicted: SmallInts
    hits: SmallInts
    distance: SmallInts
    furthest: int
    ever_predicted: IntArray


def count(tables: Sequence[Predictions], group: IntArray) -> Counts:
    """Count what tables over the same images, in the same order, predict.

    Args:
        tables: S of them.
        group: (N,) codes 0..G-1.
    """
    target, classes = tables[0].target, len(tables[0].class_names)
    groups, everyone = int(group.max()) + 1, np.arange(len(target))

    def by_group(category: IntArray, chosen: NDArray[np.bool_] | slice = slice(None)) -> SmallInts:
        cells = (group * classes + category)[chosen]
        return np.bincount(cells, minlength=groups * classes).reshape(groups, classes).astype(np.int32)

    ever = np.zeros((len(target), classes), dtype=np.bool_)
    predicted = np.empty((len(tables), groups, classes), dtype=np.int32)
    hits, distance = np.empty_like(predicted), np.empty(predicted.shape[:2], dtype=np.int32)
    furthest = 0
    for replicate, table in enumerate(tables):
        given = table.predicted
        ever[everyone, given] = True
        predicted[replicate] = by_group(given)
        hits[replicate] = by_group(target, given == target)
        apart = np.abs(given - target)
        furthest = max(furthest, int(apart.max()))
        distance[replicate] = np.bincount(group, weights=apart**2, minlength=groups)
    return Counts(by_group(target), predicted, hits, distance, furthest, ever.sum(axis=0))
