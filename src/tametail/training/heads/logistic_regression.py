"""scikit-learn's multinomial logistic regression, the classical baseline, with the penalty of the heads trained here.

Shape legend: n images, D features, C classes of which some may have no image.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray

ABSENT = -1e4  # bias of a class without images
_TOLERANCE, _MAX_ITERATIONS = 1e-5, 5000


@dataclass(frozen=True, eq=False)
class FittedRegression:
    """A fitted logistic regression.

    Attributes:
        classes: (K,) the classes with images.
        weight: (K, D).
        bias: (K,).
        objective: mean log-loss and λ/2 ‖W‖².
        gradient: norm of the gradient relative to that at weights of 0.
        iterations: of L-BFGS.
        converged: whether it ended before the limit of iterations.
    """

    classes: IntArray
    weight: FloatArray
    bias: FloatArray
    objective: float
    gradient: float
    iterations: int
    converged: bool


def fit_logistic_regression(features: NDArray[Any], target: IntArray, l2: float) -> FittedRegression:
    """Minimise mean log-loss + λ/2 ‖W‖² with ``sklearn.linear_model.LogisticRegression``; biases are not penalised.

    Args:
        features: (n, D); columns of similar size.
        target: (n,) classes; at least two of them.
        l2: λ > 0.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    exact, images = features.astype(np.float64), len(target)
    binary = len(np.unique(target)) == 2
    # Of two classes it fits the difference w of their weights, w/2 and -w/2, whose penalty is λ/4 ‖w‖².
    strength = 1 / (images * (l2 / 2 if binary else l2))
    model = LogisticRegression(C=strength, tol=_TOLERANCE, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # recorded below
        model.fit(exact, target)
    weight, bias = model.coef_, model.intercept_
    if binary:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    one_hot = (target[:, None] == model.classes_).astype(np.float64)
    logits = exact @ weight.T + bias
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    objective = -(log_p * one_hot).sum() / images + l2 / 2 * (weight**2).sum()
    gradient = _gradient_norm(exact, np.exp(log_p) - one_hot, l2 * weight)
    start = _gradient_norm(exact, 1 / one_hot.shape[1] - one_hot, np.zeros_like(weight))
    iterations = int(np.max(model.n_iter_))
    return FittedRegression(
        model.classes_,
        weight,
        bias,
        float(objective),
        gradient / start,
        iterations,
        iterations < _MAX_ITERATIONS,
    )


def _gradient_norm(features: FloatArray, slopes: FloatArray, of_penalty: FloatArray) -> float:
    """Norm of the gradient by weights and biases from that by the logits (n, K)."""
    of_weight = slopes.T @ features / len(features) + of_penalty
    return float(np.sqrt((of_weight**2).sum() + (slopes.mean(axis=0) ** 2).sum()))
