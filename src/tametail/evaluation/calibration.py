"""Calibration of probabilities: Brier score, log-loss, calibration error, and temperature scaling (Guo et al. 2017).

Shape legend: S replicates, N images, G groups, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import intervals
from tametail.evaluation.distributions import t_quantile
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.sample import align, group_codes
from tametail.predictions.single_label import LinkName, Predictions

LIMITS = (0.05, 20.0)  # if all images are correct, the optimum is 0
_ENOUGH = 10_000  # images are enough to fit one parameter
_FLOOR = float(np.finfo(np.float32).tiny)

MOST_BINS = 15
_FEWEST = 20  # images per bin


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
        log_loss: mean of -log of the true class's probability.
        ece: expected calibration error of the predicted class, in 0..1: mean distance of confidence and accuracy.
        class_wise_ece: the same for each class's probability, mean over the classes present.
        bins: the reliability curve, from low to high confidence.
        temperature: geometric mean over folds and replicates; nan if there are no other folds to fit it on.
        after: the calibration with each fold at the temperature fitted on the other folds; None if there are none.
    """

    brier: Estimate
    log_loss: float
    ece: float
    class_wise_ece: float
    bins: tuple[Bin, ...]
    temperature: float = float("nan")
    after: Calibration | None = None


def calibrate(
    replicates: Sequence[Predictions], *, temperatures: Sequence[float] | None = None
) -> Calibration:
    """Evaluate the calibration of one or several sets of predictions for the same images.

    Values are means over the replicates; intervals describe sampling of images, clustered in groups.

    The bins are adaptive: of about equal size (Nguyen & O'Connor 2015; Nixon et al. 2019), at most 15, with at least 20
    images each; images of equal probability are never separated.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined) or one per fold model.
        temperatures: S of them, fitted on other images (for a test set on the validation folds); None to fit that of
            each fold on the other folds, if there are any.

    Raises:
        ValueError: no table, no image, tables that differ in images, groups, targets or classes, or another number of
            temperatures.
    """
    tables = align(replicates)
    if temperatures is None:
        found = [out_of_fold_temperatures(table) for table in tables]
    elif len(temperatures) == len(tables):
        found = [np.full(len(tables[0]), float(t)) for t in temperatures]
    else:
        raise ValueError(f"expected {len(tables)} temperatures, one per table, got {len(temperatures)}")
    fitted = [each for each in found if each is not None]
    before = _measure(tables, (table.probabilities for table in tables))
    if len(fitted) < len(tables):
        return before
    after = _measure(tables, (tempered(t, each) for t, each in zip(tables, fitted, strict=True)))
    mean = float(np.exp(np.mean([np.log(np.unique(each)).mean() for each in fitted])))
    return replace(before, temperature=mean, after=after)


def _measure(tables: Sequence[Predictions], probabilities: Iterable[FloatArray]) -> Calibration:
    target, group = tables[0].target, group_codes(tables[0])
    rows = np.arange(len(target))
    brier, log_loss, by_class = np.zeros(len(target)), [], []
    confidence, right = [], []
    for table, p in zip(tables, probabilities, strict=True):
        brier += brier_scores(target, p) / len(tables)
        log_loss.append(float(-np.log(np.maximum(p[rows, target], np.finfo(np.float32).tiny)).mean()))
        confidence.append(p[rows, table.predicted])
        right.append(table.predicted == target)
        by_class.append([adaptive_ece(p[:, c], target == c) for c in np.unique(target)])
    top = [adaptive_ece(*pair) for pair in zip(confidence, right, strict=True)]
    return Calibration(
        _brier(brier, group),
        float(np.mean(log_loss)),
        float(np.mean(top)),
        float(np.mean(by_class)),
        _bins(np.stack(confidence), np.stack(right), group),
    )


def brier_scores(target: IntArray, p: FloatArray) -> FloatArray:
    """Squared distances (N,) in 0..2 of probabilities (N, C) from the one-hot targets (Brier 1950)."""
    own = p[np.arange(len(target)), target]
    return np.asarray(np.maximum((p**2).sum(axis=1) + 1 - 2 * own, 0.0))


def adaptive_ece(p: FloatArray, happened: NDArray[np.bool_]) -> float:
    """Mean distance in 0..1 of probabilities (N,) and the frequency of what happened (N,), with adaptive bins."""
    code = _codes(p, len(p))
    gap = np.bincount(code, p) - np.bincount(code, happened)
    return float(np.abs(gap).sum() / len(p))


def _codes(p: FloatArray, images: int) -> IntArray:
    """Bin (N,) of each probability: of about equal size, none empty, equal probabilities together."""
    bins = max(1, min(MOST_BINS, images // _FEWEST))
    last = np.arange(1, bins) * len(p) // bins - 1
    edges = np.unique(np.partition(p, last)[last]) if bins > 1 else np.empty(0)
    code = np.searchsorted(edges, p, side="left")
    return np.asarray(np.unique(code, return_inverse=True)[1], dtype=np.int64)


def _bins(confidence: FloatArray, right: NDArray[np.bool_], group: IntArray) -> tuple[Bin, ...]:
    """Bins of confidences (S, N) with the correctness (S, N) of the decisions."""
    replicates, images = confidence.shape
    code = _codes(confidence.ravel(), images)
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


def tempered(table: Predictions, temperature: float | FloatArray) -> FloatArray:
    """Probabilities (N, C) at a temperature; at 1 they equal ``table.probabilities``.

    They are computed from the posterior by the loss's own link, not from the logits, which may be shifted towards rare
    classes: softmax(log p / T), or with one sigmoid per class the log-odds divided by T, then normalised.

    Args:
        temperature: above 0; a number or one per image (N,).
    """
    divisor = np.asarray(temperature, dtype=np.float64)
    return np.exp(_log_probabilities(_before_link(table), table.link, divisor.reshape(-1, 1)))


def fit_temperature(table: Predictions) -> float:
    """Fit the temperature in 0.05..20 that minimises the log-loss of these images, or of a random 10,000 of them.

    Raises:
        ValueError: there is no image.
    """
    return _fit(_before_link(table), table.link, table.target)


def out_of_fold_temperatures(table: Predictions) -> FloatArray | None:
    """Temperatures (N,) for the images of each fold, fitted on the other folds; None if there is one fold."""
    folds = np.unique(table.fold)
    if len(folds) < 2:
        return None
    base, found = _before_link(table), np.empty(len(table))
    for fold in folds:
        own = table.fold == fold
        found[own] = _fit(base[~own], table.link, table.target[~own])
    return found


def _before_link(table: Predictions) -> FloatArray:
    """Log-probabilities (N, C), or log-odds with sigmoids, which the temperature divides."""
    if table.posterior is None:
        return table.logits.astype(np.float64)
    p = np.maximum(table.probabilities, _FLOOR)
    if table.link == "softmax":
        return np.asarray(np.log(p))
    return np.asarray(np.log(p) - np.log(np.maximum(_others(p), _FLOOR)))


def _others(p: FloatArray) -> FloatArray:
    """1 - p (N, C); for the largest of a row as the sum of the others, which is accurate where p is nearly 1."""
    rows, top = np.arange(len(p)), p.argmax(axis=1)
    without = p.copy()
    without[rows, top] = 0.0
    rest = 1 - p
    rest[rows, top] = without.sum(axis=1)
    return rest


def _log_probabilities(base: FloatArray, link: LinkName, temperature: float | FloatArray) -> FloatArray:
    z = base / temperature
    log_p = -np.logaddexp(0.0, -z) if link == "sigmoid" else z
    return np.asarray(log_p - special.logsumexp(log_p, axis=1, keepdims=True))


def _fit(base: FloatArray, link: LinkName, target: IntArray) -> float:
    from scipy import optimize

    if not len(target):
        raise ValueError("expected at least one image to fit a temperature on, got none")
    if len(target) > _ENOUGH:
        drawn = np.sort(np.random.default_rng(0).choice(len(target), _ENOUGH, replace=False))
        base, target = base[drawn], target[drawn]
    rows = np.arange(len(target))

    def log_loss(log_temperature: float) -> float:
        log_p = _log_probabilities(base, link, np.exp(log_temperature))
        return float(-log_p[rows, target].mean())

    low, high = np.log(LIMITS)
    found = optimize.minimize_scalar(log_loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
