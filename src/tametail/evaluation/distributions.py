"""Quantiles and probabilities of common distributions, from scipy.special: importing scipy.stats takes half a second."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from tametail.core.arrays import FloatArray


def normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution."""
    return float(special.ndtri(p))


def t_quantile(p: float, degrees: Any) -> FloatArray:
    """Quantiles of Student's t distribution with degrees of freedom of any shape."""
    return np.asarray(special.stdtrit(degrees, p), dtype=np.float64)


def t_two_sided(t: float, degrees: float) -> float:
    """Probability of a value of Student's t distribution at least as far from 0."""
    return float(2 * special.stdtr(degrees, -abs(t)))


def gamma_quantile(p: float, shape: float, scale: float) -> float:
    """Quantile of the gamma distribution."""
    return float(special.gammaincinv(shape, p) * scale)


def fair_coin(heads: FloatArray, tosses: int) -> FloatArray:
    """Probabilities of these numbers of heads in so many tosses of a fair coin."""
    log_ways = special.gammaln(tosses + 1) - special.gammaln(heads + 1) - special.gammaln(tosses - heads + 1)
    return np.asarray(np.exp(log_ways - tosses * math.log(2)), dtype=np.float64)
