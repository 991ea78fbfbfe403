"""ROC and precision-recall curves of a class or label against all others, thinned for drawing.

Replicates are averaged vertically (Fawcett 2006, Algorithm 3): the mean sensitivity at each false-positive rate, and the mean
precision at each recall. Averages over thresholds would compare probabilities of different models, and pooled scores would
rank the images of one model against those of another; the area under either differs from the mean AUROC or average precision
of the replicates, which is what `ranking_metrics.ranking_proportions` estimates. The area under a vertical average equals it.

Shape legend: S replicates, N images, P positives, M points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.evaluation.ranking_metrics import RankedClass, placements_and_precision

MOST_POINTS = 200  # the area then changes by less than 0.004, a pixel of a figure of 250 pixels


@dataclass(frozen=True, eq=False)
class Curve:
    """The points of a curve, from low to high ``x``; none where there is no positive or no negative image.

    Attributes:
        x, y: (M,) in 0..1.
        positives, negatives: images.
    """

    x: FloatArray
    y: FloatArray
    positives: int
    negatives: int


def roc_curve(of_class: RankedClass, *, most: int = MOST_POINTS) -> Curve:
    """Sensitivity (y) by false-positive rate (x), from (0, 0) to (1, 1), to be joined by straight lines.

    Of a single replicate the points are those of scikit-learn's ``roc_curve``; of several the mean sensitivity at each
    false-positive rate. The trapezoidal area is the mean AUROC, up to thinning.

    Args:
        of_class: the scores; images whose class is unknown are left out.
        most: about the largest number of points, at least 2. A curve with more keeps those that are spread evenly along it.
    """
    positive, scores = _known(of_class)
    positives = int(np.count_nonzero(positive))
    negatives = len(positive) - positives
    if not (positives and negatives):
        return Curve(np.empty(0), np.empty(0), positives, negatives)
    steps = [_roc_steps(positive, of_replicate) for of_replicate in scores]
    x = np.unique(np.concatenate([false for false, _, _ in steps]))
    # A curve may rise at one false-positive rate, so that it has two values there.
    from_left, from_right = (
        np.mean([_at(x, *of_replicate, side) for of_replicate in steps], axis=0) for side in (0, 1)
    )
    rate = np.repeat(x / negatives, 2)
    sensitivity = np.stack([from_left, from_right], axis=1).ravel() / positives
    distinct = np.append(True, (np.diff(rate) > 0) | (np.diff(sensitivity) > 0))
    return Curve(*_thinned(rate[distinct], sensitivity[distinct], most), positives, negatives)


def precision_recall_curve(of_class: RankedClass, *, most: int = MOST_POINTS) -> Curve:
    """Precision (y) by recall (x), to be drawn in steps: a precision holds from the recall before it up to its own.

    Of a single replicate the points are those of scikit-learn's ``precision_recall_curve`` at which the recall increases; of
    several the mean precision at each recall. The area of the steps is the mean average precision, up to thinning.

    Args:
        of_class, most: as for `roc_curve`.
    """
    positive, scores = _known(of_class)
    positives = int(np.count_nonzero(positive))
    negatives = len(positive) - positives
    if not (positives and negatives):
        return Curve(np.empty(0), np.empty(0), positives, negatives)
    precision, last = np.zeros(positives), np.zeros(positives, dtype=np.bool_)
    for of_replicate in scores:
        own = np.asarray(of_replicate)[positive]
        ordered = np.argsort(-own, kind="stable")
        precision += placements_and_precision(positive, of_replicate)[1][ordered]
        # Positives of one score are found together, at the recall of the last.
        last |= np.append(np.diff(own[ordered]) != 0, True)
    recall = np.arange(1, positives + 1) / positives
    return Curve(
        *_thinned(recall[last], precision[last] / len(scores), most, origin=0.0), positives, negatives
    )


def _known(of_class: RankedClass) -> tuple[BoolArray, list[NDArray[np.floating]]]:
    known = slice(None) if of_class.known is None else of_class.known
    return of_class.positive[known], [of_replicate[known] for of_replicate in of_class.scores]


def _roc_steps(positive: BoolArray, score: NDArray[np.floating]) -> tuple[IntArray, FloatArray, FloatArray]:
    """Distinct numbers of false positives, and the fewest and most true positives at each."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.diff(score[order]) != 0, True)
    true = np.append(0, np.cumsum(positive[order])[ends])
    false = np.append(0, np.cumsum(~positive[order])[ends])
    distinct, first = np.unique(false, return_index=True)
    last = np.append(first[1:], len(false)) - 1
    return distinct, true[first].astype(np.float64), true[last].astype(np.float64)


def _at(x: IntArray, distinct: IntArray, fewest: FloatArray, largest: FloatArray, side: int) -> FloatArray:
    """True positives at the false positives ``x``: the fewest (side 0) or the most (1) there, between points on the line."""
    place = np.searchsorted(distinct, x, side="right") - 1
    here, after = distinct[place], np.minimum(place + 1, len(distinct) - 1)
    width = np.maximum(distinct[after] - here, 1)
    between = largest[place] + (fewest[after] - largest[place]) * (x - here) / width
    return np.where(x == here, (fewest, largest)[side][place], between)


def _thinned(
    x: FloatArray, y: FloatArray, most: int, origin: float | None = None
) -> tuple[FloatArray, FloatArray]:
    """Of more than ``most`` points those that are spread evenly over the changes in x and in y, with the ends and the corners.

    Args:
        origin: x of the step before the first point, for curves that are drawn in steps.
    """
    if len(x) <= most:
        return x, y
    across, upwards = np.diff(x, prepend=x[0] if origin is None else origin), np.abs(np.diff(y, prepend=y[0]))
    covered = np.cumsum(across / across.sum() + upwards / max(upwards.sum(), np.finfo(np.float64).tiny))
    # Two thirds are spread evenly; the rest are the corners before long steps, which are at most half as many.
    wanted, spacing = np.linspace(covered[0], covered[-1], 2 * most // 3, retstep=True)
    before_long = np.flatnonzero(np.diff(covered) > spacing)
    kept = np.unique(np.concatenate([np.searchsorted(covered, wanted[:-1]), before_long, [0, len(x) - 1]]))
    return x[kept], y[kept]
