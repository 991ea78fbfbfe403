"""Temperature scaling (Guo et al. 2017) through the link by which a loss's logits become probabilities.

Shape legend: N images, C classes.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from tametail.core.arrays import FloatArray, IntArray
from tametail.predictions.single_label import LinkName, Predictions

LIMITS = (0.05, 20.0)  # if all images are correct, the optimum is 0
_ENOUGH = 10_000  # images are enough to fit one parameter
_FLOOR = float(np.finfo(np.float32).tiny)


def tempered(table: Predictions, temperature: float | FloatArray) -> FloatArray:
    """Probabilities (N, C) at a temperature; at 1 they equal ``table.probabilities``.

    They are computed from the posterior by the loss's own link, not from the logits, which may be
    shifted towards rare classes. Under the softmax link: softmax(log p / T), which is softmax(z / T) of the logits z
    of p. With one sigmoid per class: each class's log-odds divided by T, then normalised over the classes.

    Args:
        temperature: above 0; a number or one per image (N,).
    """
    divisor = np.asarray(temperature, dtype=np.float64)
    return np.exp(_log_probabilities(_before_link(table), table.link, divisor.reshape(-1, 1)))


def fit_temperature(table: Predictions) -> float:
    """Fit the temperature in 0.05..20 that minimises the log-loss of these images.

    Of more than 10,000 images a fixed random subset is used.

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
