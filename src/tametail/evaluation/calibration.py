"""Calibration of probabilities: Brier score, log-loss, calibration error, intercept and slope.

Shape legend: S replicates, N images, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import intervals
from tametail.evaluation.calibration_maps import Calibrated, CalibrationMap
from tametail.evaluation.distributions import t_quantile
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.log_loss import LEAST, log_losses
from tametail.evaluation.sample import align, group_codes
from tametail.predictions.single_label import Predictions

MOST_BINS = 15
_FEWEST = 20  # images per bin
_ITERATIONS = 50
_CLEAR = 0.02  # confidence minus accuracy from which a model is called overconfident or underconfident


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability curve.

    Attributes:
        confidence: mean probability of the predicted class.
        accuracy: proportion of correct images.
        low, high: 95 % limits of the accuracy (Wilson, for clustered data).
        n: images, mean over the replicates.
    """

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """Calibration of the predictions of one method.

    Attributes:
        brier: mean over the images of the squared distance between probabilities and truth, in 0..2.
        log_loss: mean of -log of the true class's probability; at most 27.6 for an image (probability 1e-12).
        uniform_log_loss: that of equal probabilities, log C: a model above it is worse than none.
        ece: expected calibration error of the predicted class, in 0..1: mean distance of confidence and accuracy.
        class_wise_ece: the same for each class's probability, mean over the classes present.
        intercept, slope: of the logistic regression of "the prediction is correct" on the log-odds of its probability (Cox
            1958): 0 and 1 if calibrated. The slope is below 1 where probabilities are too extreme; the intercept, fitted with a
            slope of 1, is below 0 where they are too high (Van Calster et al. 2019). nan if all predictions are correct, or none.
        bins: the reliability curve, from low to high confidence.
        map: fitted on the out-of-fold predictions, for new images; None where none was fitted.
        after: the calibration of each fold with the map chosen and fitted on the other folds; None where none was fitted.
    """

    brier: Estimate
    log_loss: float
    uniform_log_loss: float
    ece: float
    class_wise_ece: float
    intercept: float
    slope: float
    bins: tuple[Bin, ...]
    map: CalibrationMap | None = None
    after: Calibration | None = None


def calibration_of(replicates: Sequence[Predictions], calibrated: Calibrated | None = None) -> Calibration:
    """Evaluate the calibration of one or several sets of predictions for the same images.

    Values are means over the replicates; intervals describe sampling of images, clustered in groups.

    The bins are adaptive: of about equal size (Nguyen & O'Connor 2015; Nixon et al. 2019), at most 15, with at least 20
    images each; images of equal probability are never separated.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        calibrated: the same with calibrated probabilities, evaluated as ``after``.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes.
    """
    before = _measure(align(replicates))
    if calibrated is None:
        return before
    return replace(before, map=calibrated.map, after=_measure(align(calibrated.tables)))


def _measure(tables: Sequence[Predictions]) -> Calibration:
    target, group = tables[0].target, group_codes(tables[0])
    brier, log_loss, by_class = np.zeros(len(target)), [], []
    confidence, right = np.empty((len(tables), len(target))), []
    for table, of_table in zip(tables, confidence, strict=True):
        predicted, losses = table.predicted, np.empty(len(target))
        for rows, p in table.probability_blocks():
            brier[rows] += brier_scores(target[rows], p) / len(tables)
            losses[rows] = log_losses(target[rows], p)
            of_table[rows] = p[np.arange(len(p)), predicted[rows]]
        log_loss.append(float(losses.mean()))
        right.append(predicted == target)
        by_class.append([adaptive_ece(table.class_probabilities(c), target == c) for c in np.unique(target)])
    pairs = list(zip(confidence, right, strict=True))
    intercept, slope = np.mean([logistic_recalibration(*pair) for pair in pairs], axis=0)
    return Calibration(
        _brier(brier, group),
        float(np.mean(log_loss)),
        float(np.log(len(tables[0].class_names))),
        float(np.mean([adaptive_ece(*pair) for pair in pairs])),
        float(np.mean(by_class)),
        float(intercept),
        float(slope),
        _bins(confidence, np.stack(right), group),
    )


def logistic_recalibration(p: FloatArray, happened: NDArray[np.bool_]) -> tuple[float, float]:
    """Intercept (at slope 1) and slope of the logistic regression of what happened (N,) on the log-odds of p (N,).

    By maximum likelihood. Both are nan if everything happened or nothing did, the slope also if the log-odds do not vary.
    """
    if happened.all() or not happened.any():
        return float("nan"), float("nan")
    x = special.logit(np.clip(p, LEAST, 1 - LEAST))
    intercept = _logistic(np.ones((len(x), 1)), x, happened)[0]
    if np.ptp(x) < LEAST:
        return float(intercept), float("nan")
    return float(intercept), float(_logistic(np.stack([np.ones(len(x)), x], axis=1), 0.0 * x, happened)[1])


def _logistic(design: FloatArray, offset: FloatArray, happened: NDArray[np.bool_]) -> FloatArray:
    """Coefficients (K,) of a logistic regression with offsets (N,), by Newton's method with steps of at most 2."""
    found = np.zeros(design.shape[1])
    for _ in range(_ITERATIONS):
        p = special.expit(design @ found + offset)
        information = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(len(found))
        step = np.linalg.solve(information, design.T @ (happened - p))
        found = found + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-8:
            break
    return found


def tendency(bins: Sequence[Bin]) -> str:
    """Whether mean confidence is above or below accuracy, in words."""
    n = np.array([one.n for one in bins], dtype=np.float64)
    gap = float(np.sum(n * [one.confidence - one.accuracy for one in bins]) / n.sum())
    if abs(gap) < _CLEAR:
        return "calibrated on average"
    return f"{'overconfident' if gap > 0 else 'underconfident'} by {100 * abs(gap):.0f} points"


def brier_scores(target: IntArray, p: FloatArray) -> FloatArray:
    """Squared distances (N,) in 0..2 of probabilities (N, C) from the one-hot targets (Brier 1950)."""
    own = p[np.arange(len(target)), target]
    return np.asarray(np.maximum((p**2).sum(axis=1) + 1 - 2 * own, 0.0))


def adaptive_ece(p: FloatArray, happened: NDArray[np.bool_]) -> float:
    """Mean distance in 0..1 of probabilities (N,) and the frequency of what happened (N,), with adaptive bins."""
    code = bin_codes(p, len(p))
    gap = np.bincount(code, p) - np.bincount(code, happened)
    return float(np.abs(gap).sum() / len(p))


def bin_codes(p: FloatArray, images: int) -> IntArray:
    """Bin (N,) of each probability: of about equal size, none empty, equal probabilities together."""
    bins = max(1, min(MOST_BINS, images // _FEWEST))
    last = np.arange(1, bins) * len(p) // bins - 1
    edges = np.unique(np.partition(p, last)[last]) if bins > 1 else np.empty(0)
    code = np.searchsorted(edges, p, side="left")
    filled = np.bincount(code) > 0
    return np.asarray((np.cumsum(filled) - 1)[code], dtype=np.int64)


def _bins(confidence: FloatArray, right: NDArray[np.bool_], group: IntArray) -> tuple[Bin, ...]:
    """Bins of confidences (S, N) with the correctness (S, N) of the decisions."""
    replicates, images = confidence.shape
    code = bin_codes(confidence.ravel(), images)
    bins, groups = int(code.max()) + 1, int(group.max()) + 1
    cell = np.tile(group, replicates) * bins + code

    def by_group(weights: FloatArray) -> FloatArray:
        summed = np.bincount(cell, weights / replicates, minlength=groups * bins)
        return np.asarray(summed.reshape(groups, bins))

    trials, hits = by_group(np.ones(cell.shape)), by_group(right.ravel().astype(np.float64))
    n = trials.sum(axis=0)
    accuracy = np.minimum(hits.sum(axis=0) / n, 1.0)
    low, high = intervals.wilson(accuracy, intervals.effective_sample_size(hits, trials))
    mean = np.bincount(code, confidence.ravel() / replicates) / n
    return tuple(
        Bin(float(mean[b]), float(accuracy[b]), float(low[b]), float(high[b]), round(float(n[b])))
        for b in range(bins)
    )


def _brier(scores: FloatArray, group: IntArray) -> Estimate:
    """Mean of scores (N,) in 0..2, with limits by the variance between groups of the log-odds of half of it.

    If nothing varies, or there is a single group, Wilson limits for one trial per group: the variance of a mean m
    of values in 0..1 is at most m (1 - m) over their number.
    """
    mean = float(scores.mean() / 2)
    groups, size = int(group.max()) + 1, np.bincount(group)
    residuals = np.bincount(group, scores / 2) - size * mean
    spread = float(np.sqrt((residuals**2).sum() * groups / max(groups - 1, 1)) / len(scores))
    if groups > 1 and 0 < mean < 1 and spread > 1e-12:
        half: Any = t_quantile(0.975, groups - 1) * spread / (mean * (1 - mean))
        low, high = special.expit(special.logit(mean) + np.array([-half, half]))
    else:
        low, high = (float(limit) for limit in intervals.wilson(mean, groups))
    return Estimate(2 * mean, 2 * float(low), 2 * float(high), len(scores))
