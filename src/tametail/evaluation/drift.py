"""Drift of a stream of images without labels: sequential tests of means, with a false-alarm rate over the whole stream.

All that is watched is the mean of values in 0..1 of each image: a flag (0 or 1) or a probability. The mean may be unknown before; it
is then known to be within limits, from earlier images. An alarm is raised by evidence that the mean is beyond a limit:

- Evidence is the capital of bets on each value (Waudby-Smith & Ramdas 2024): a stake s multiplies it by 1 + s (x - m), whose expectation is
  at most 1 as long as the mean is at most m, at any variance. The capital is averaged over stakes, so that no size of drift is chosen.
- A change may begin with any batch k. The capital from that batch on has the weight 1/(k (k + 1)), and these sum to one over all k, as in
  a Bayesian mixture over the time of the change (Shiryaev 1963). So old images without drift do not hide a new change.
- The weighted sum is a supermartingale that begins at 1. It ever reaches 1/a with probability at most a (Ville 1939): however many batches
  come, and however often one looks.

Limits of a mean are all means that the same bets do not exclude. They hold for any number of images, also where no flag was seen.

Images are taken as independent. Images of one patient, or the same images twice, raise more false alarms.

Shape legend: N images, T batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from tametail.core.arrays import FloatArray

# Shares of the largest stake that cannot lose everything.
_STAKES = np.geomspace(1e-3, 0.9, 30)
_GRID = 10_000  # values are rounded down to multiples of its inverse, which only loses evidence
_HALVINGS = 40
_SMALLEST = 1e-12  # mean


@dataclass(frozen=True)
class Change:
    """What a sequential test has found.

    Attributes:
        evidence: (T,) natural logarithm of the evidence after each batch.
        needed: the evidence from which an alarm is raised.
        alarm: the first batch, from 0, at which it was raised; None for no alarm.
        began: the batch with which the change most probably began; None for no alarm.
    """

    evidence: FloatArray
    needed: float
    alarm: int | None
    began: int | None


def detect_rise(batches: Sequence[FloatArray], limit: float, error: float) -> Change:
    """Test after each batch whether the mean has risen above a limit.

    Args:
        batches: T arrays of values in 0..1, which may be empty.
        limit: that the mean does not exceed without drift, in 0..1.
        error: probability of an alarm without drift, over all batches and those that may follow.

    Raises:
        ValueError: values or a limit outside 0..1, or an error outside 0..1.
    """
    _check(batches, error)
    if not 0 <= limit <= 1:
        raise ValueError(f"expected a limit in 0..1, got {limit:g}")
    needed = -math.log(error)
    evidence, began = np.zeros(len(batches)), None
    alarm: int | None = None
    # Logarithms of the capital of each start (rows) and stake.
    capital = np.empty((0, len(_STAKES)))
    for at, values in enumerate(batches):
        capital = np.vstack([capital, np.zeros(len(_STAKES))]) + _log_capital(values, limit)
        start = np.arange(1, at + 2)
        of_start = _mean_of_stakes(capital) - np.log(start * (start + 1.0))
        rest = -math.log(at + 2)  # the weight of all later starts
        evidence[at] = np.logaddexp.reduce([*of_start, rest])
        if alarm is None and evidence[at] >= needed:
            alarm, began = at, int(of_start.argmax())
    return Change(evidence, needed, alarm, began)


def detect_fall(batches: Sequence[FloatArray], limit: float, error: float) -> Change:
    """Test after each batch whether the mean has fallen below a limit, see `detect_rise`."""
    return detect_rise([1.0 - values for values in batches], 1.0 - limit, error)


def mean_limits(values: FloatArray, error: float) -> tuple[float, float]:
    """Limits of the mean of values in 0..1, each of which the mean exceeds with probability at most ``error``.

    Args:
        values: (N,), of none of which nothing is known: 0 and 1.
        error: of each limit, in 0..1.
    """
    _check([values], error)
    return 1.0 - _upper_limit(1.0 - values, error), _upper_limit(values, error)


def exceedance_limit(groups: int, rate: float, error: float) -> float:
    """Upper limit of the rate of new values above a threshold, which was chosen from so many groups for at most this rate.

    Given the groups the rate has at most a beta distribution (Vovk 2012): its mean is ``rate``, but it may be higher where the groups
    are few.

    Args:
        groups: by whose scores the threshold was chosen, of which ``rate`` × (groups + 1) may exceed it.
        rate: in 0..1.
        error: probability that the rate exceeds the limit.
    """
    above = math.floor(rate * (groups + 1) + 1e-9)
    if above < 1:
        raise ValueError(
            f"expected at least {math.ceil(1 / rate) - 1} groups for a rate of {rate:g}, got {groups}"
        )
    return float(special.betaincinv(above, groups + 1 - above, 1 - error))


def _upper_limit(values: FloatArray, error: float) -> float:
    """The largest mean that bets on lower values do not exclude."""
    if not len(values):
        return 1.0
    mirrored, needed = 1.0 - values, -math.log(error)
    # The capital against a mean rises with it: halve the range, and keep the end that is excluded.
    low, high = float(values.mean()), 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        excluded = _mean_of_stakes(_log_capital(mirrored, 1.0 - middle)[None])[0] >= needed
        low, high = (low, middle) if excluded else (middle, high)
    return high


def _log_capital(values: FloatArray, limit: float) -> FloatArray:
    """(L,) logarithms of the capital of each stake, on values above the limit."""
    limit = max(limit, _SMALLEST)
    steps, counts = np.unique(np.floor(values * _GRID + 1e-9), return_counts=True)
    stakes = _STAKES / limit
    return np.asarray(np.log1p(np.outer(stakes, steps / _GRID - limit)) @ counts)


def _mean_of_stakes(log_capital: FloatArray) -> FloatArray:
    """(K,) logarithms of the mean capital over stakes, of (K, L)."""
    largest = log_capital.max(axis=1)
    return np.asarray(largest + np.log(np.exp(log_capital - largest[:, None]).mean(axis=1)))


def _check(batches: Sequence[FloatArray], error: float) -> None:
    if not 0 < error < 1:
        raise ValueError(f"expected an error above 0 and below 1, got {error:g}")
    for values in batches:
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("expected values in 0..1")
