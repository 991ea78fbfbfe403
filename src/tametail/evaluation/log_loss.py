"""Log-loss of class probabilities, with its 95 % interval.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation.distributions import t_quantile
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.sample import align, group_codes
from tametail.predictions.single_label import Predictions

LEAST = 1e-12  # a probability of 0 is no infinite loss


def log_losses(target: IntArray, p: NDArray[np.floating]) -> FloatArray:
    """-log of the true class's probability (N,), natural logarithm; at most 27.6 (of 1e-12).

    Args:
        target: (N,) class indices.
        p: (N, C) probabilities that sum to one in each row.
    """
    return np.asarray(-np.log(np.maximum(p[np.arange(len(target)), target], LEAST)), dtype=np.float64)


def mean_log_losses(replicates: Sequence[Predictions]) -> FloatArray:
    """Log-loss (N,) of each image, mean over tables with the same rows, of `Predictions.probabilities`."""
    found = np.zeros((len(replicates), len(replicates[0])))
    for of_table, table in zip(found, replicates, strict=True):
        for rows, p in table.probability_blocks():
            of_table[rows] = log_losses(table.target[rows], p)
    return np.asarray(found.mean(axis=0))


def log_loss(replicates: Sequence[Predictions]) -> Estimate:
    """Mean log-loss of the images and of the replicates; lower is better.

    The limits are those of its logarithm, by the variance between groups (patients, lesions) and Student's t.

    Args:
        replicates: tables over the same images, e.g. one per seed (folds joined).

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes.
    """
    tables = align(replicates)
    losses, group = mean_log_losses(tables), group_codes(tables[0])
    value, groups = float(losses.mean()), int(group.max()) + 1
    if groups < 2 or value == 0:
        return Estimate(value, float("nan"), float("nan"), len(losses))
    residuals = np.bincount(group, losses - value) / len(losses)
    error = float(np.sqrt(groups / (groups - 1) * (residuals**2).sum()))
    factor = float(np.exp(float(t_quantile(0.975, groups - 1)) * error / value))
    return Estimate(value, value / factor, value * factor, len(losses))
