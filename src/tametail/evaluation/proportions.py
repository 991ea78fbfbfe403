"""Proportions with their 95 % intervals.

Shape legend: N images, G groups, K proportions (e.g. one per class).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import intervals, metrics


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval and its number of images; nan where undefined.

    Proportions are in 0..1, correlations and kappas in -1..1.
    """

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The fields for JSON, None where undefined."""
        return {key: value if math.isfinite(value) else None for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Estimate:
        """An estimate from the fields that `as_dict` returns."""
        value, low, high = (
            math.nan if content[key] is None else float(content[key]) for key in ("value", "low", "high")
        )
        return cls(value, low, high, int(content["n"]))


@dataclass(frozen=True)
class Proportions:
    """K values with their limits.

    Attributes:
        value, low, high: (K,).
        n: (K,) images.
        residuals: (G, K) group residuals, see `intervals.group_residuals`.
        trials: (K,) effective sample sizes of plain proportions; None for other values.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    n: IntArray
    residuals: FloatArray
    trials: FloatArray | None = None

    def estimate(self, index: int) -> Estimate:
        """The estimate at one index."""
        value, low, high = float(self.value[index]), float(self.low[index]), float(self.high[index])
        return Estimate(value, low, high, int(self.n[index]))

    def mean(self, present: NDArray[np.bool_], n: int) -> Estimate:
        """Mean of the values that ``present`` (K,) marks, with the limits of `intervals.mean_of_proportions`.

        Limits by MOVER alone for values that are no plain proportions; nan if none is marked.
        """
        if not present.any():
            return Estimate(np.nan, np.nan, np.nan, 0)
        value, residuals = self.value[present], self.residuals[:, present]
        of_each = value, self.low[present], self.high[present]
        if self.trials is None:
            low, high = intervals.mover_mean(*of_each, residuals)
        else:
            low, high = intervals.mean_of_proportions(*of_each, self.trials[present], residuals)
        return Estimate(float(value.mean()), float(low), float(high), n)


def proportions(value: FloatArray, hits: ArrayLike, trials: ArrayLike, n: IntArray) -> Proportions:
    """Proportions ``value`` (K,) of hits (G, K) among trials (G, K), with Wilson limits for clustered data."""
    effective = intervals.effective_sample_size(hits, trials)
    low, high = intervals.wilson(value, effective)
    return Proportions(value, low, high, n, intervals.group_residuals(hits, trials), effective)


def f1_proportions(value: FloatArray, hits: ArrayLike, union: ArrayLike, n: IntArray) -> Proportions:
    """F1 with limits from the proportion F* = F1 / (2 - F1) of hits among TP + FP + FN."""
    of_union = proportions(value / (2 - value), hits, union, n)
    low, high = (2 * limit / (1 + limit) for limit in (of_union.low, of_union.high))
    return Proportions(value, np.minimum(low, value), np.maximum(high, value), n, of_union.residuals)


def sums_by_group(values: NDArray[np.generic], group: IntArray) -> FloatArray:
    """Sums (G, K) of values (N, K) over the images of each group, given as codes (N,) in 0..G-1."""
    columns = values.T.astype(np.float64)
    return np.stack(
        [np.bincount(group, weights=column, minlength=group.max() + 1) for column in columns], axis=1
    )


def defined_mean(values: FloatArray) -> FloatArray:
    """Mean over the first axis without nan; nan where all are nan."""
    return metrics.mean_over(values.T, ~np.isnan(values.T))
