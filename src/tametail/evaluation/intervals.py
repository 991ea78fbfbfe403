"""95 % confidence intervals of proportions: for few images, proportions of 0 or 1, and clustered data.

Images of one group (patient, lesion) are correlated, so that n of them carry less information than n independent ones.
Shape legend: G groups, K proportions (e.g. one per class), C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from tametail.core.arrays import FloatArray, IntArray
from tametail.evaluation import metrics
from tametail.evaluation.distributions import gamma_quantile, normal_quantile, t_quantile

Limits = tuple[FloatArray, FloatArray]
ByGroup = ArrayLike | sparse.csr_array
"""Numbers (G, K) of each group: a sparse array where most groups have images of few classes."""


def wilson(share: ArrayLike, n: ArrayLike, *, confidence: float = 0.95) -> Limits:
    """Wilson score interval of a proportion (Wilson 1927; Brown, Cai & DasGupta 2001).

    Args:
        share: successes / n, in 0..1; the successes need not be integers.
        n: trials, or an effective sample size; need not be an integer. 0 gives nan.
        confidence: the nominal coverage.

    Returns:
        Low and high limits in 0..1, in the broadcast shape; the proportion lies between them.
    """
    p, trials = np.broadcast_arrays(np.asarray(share, dtype=np.float64), np.asarray(n, dtype=np.float64))
    trials = np.where(trials > 0, trials, np.nan)
    z = normal_quantile(0.5 + confidence / 2)
    shrink = 1 / (1 + z**2 / trials)
    centre = (p + z**2 / (2 * trials)) * shrink
    half = z * np.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2) * shrink
    # Rounding may put a limit slightly inside a proportion of 0 or 1.
    low, high = np.minimum(centre - half, p), np.maximum(centre + half, p)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def group_residuals(successes: ByGroup, trials: ByGroup) -> FloatArray | sparse.csr_array:
    """Linearised contribution of each group to the error of the K pooled proportions, shape (G, K).

    Sparse if both arguments are.

    Args:
        successes: (G, K) successes of each group.
        trials: (G, K) trials of each group.
    """
    x, m = _as_floats(successes), _as_floats(trials)
    total = np.maximum(m.sum(axis=0), np.finfo(np.float64).tiny)
    residuals = (x - m * (x.sum(axis=0) / total)) / total
    of_groups: FloatArray | sparse.csr_array = residuals.tocsr() if sparse.issparse(x) else residuals
    return of_groups


def _as_floats(by_group: ByGroup) -> Any:
    if isinstance(by_group, sparse.csr_array):
        return by_group.astype(np.float64)
    return np.asarray(by_group, dtype=np.float64)


def effective_sample_size(successes: ByGroup, trials: ByGroup, *, confidence: float = 0.95) -> FloatArray:
    """Number of independent trials with the same uncertainty of the K proportions as the clustered ones.

    n divided by the Rao-Scott design effect (Rao & Scott 1992), at least 1: the cluster-robust variance of the pooled
    proportion, with G / (G - 1), over the binomial variance p (1 - p) / (n - 1). For few groups n is reduced further by
    the squared ratio of the t quantiles with n - 1 and G - 1 degrees of freedom (Korn & Graubard 1998). If nothing
    varies (a proportion of 0 or 1), or there is a single group, it is the number of groups.

    Args:
        successes: (G, K) successes of each group, not necessarily integers.
        trials: (G, K) trials of each group; a group without trials does not count.
        confidence: of the interval that uses the result (for the t quantiles).

    Returns:
        (K,) effective sample sizes in 0..n.
    """
    x, m = _as_floats(successes), _as_floats(trials)
    n = m.sum(axis=0)
    groups = (m > 0).sum(axis=0).astype(np.float64)
    share = x.sum(axis=0) / np.maximum(n, np.finfo(np.float64).tiny)
    squares: FloatArray = np.asarray((group_residuals(x, m) ** 2).sum(axis=0))
    return _effective(share, n, groups, squares, confidence)


def _effective(
    share: FloatArray, n: FloatArray, groups: FloatArray, squares: FloatArray, confidence: float
) -> FloatArray:
    """The same from the proportions, trials, groups with a trial and sums of squared residuals, each (K,)."""
    varies = (share > 0) & (share < 1) & (groups > 1)
    spread = np.where(varies, squares, 1.0)
    between = spread * groups / np.maximum(groups - 1, 1.0)
    effect = np.where(varies, between * (n - 1) / np.where(varies, share * (1 - share), 1.0), 1.0)
    of_n, of_groups = (t_quantile(0.5 + confidence / 2, np.maximum(each - 1, 1.0)) for each in (n, groups))
    few = (np.asarray(of_n) / np.asarray(of_groups)) ** 2
    clustered = n / np.maximum(effect, 1.0) * np.minimum(few, 1.0)
    return np.asarray(np.where(varies, clustered, np.minimum(groups, n)))


def mover_mean(share: ArrayLike, low: ArrayLike, high: ArrayLike, residuals: ByGroup | None = None) -> Limits:
    """Interval in 0..1 of the mean of K proportions from the interval of each (MOVER).

    The method of variance estimates recovery (Zou & Donner 2008): with weights w = 1 / K,
    ``low = mean - sqrt(sum w² (share - low)²)`` and likewise above. Given the group residuals, their correlations r enter
    as in Zou (2008), ``sum w_i w_j r_ij (share_i - low_i)(share_j - low_j)``, but never make the interval narrower than
    under independence, since correlations from few groups are noisy.

    Args:
        share: (K,) the estimates.
        low: (K,) their lower limits.
        high: (K,) their upper limits.
        residuals: (G, K) as from `group_residuals`; None assumes independence.

    Returns:
        Low and high limits of the mean; nan where a proportion is nan or there is none.
    """
    p = np.asarray(share, dtype=np.float64)
    if p.size == 0:
        return np.array(np.nan), np.array(np.nan)
    below, above = (
        _together(distance, residuals) for distance in (p - np.asarray(low), np.asarray(high) - p)
    )
    return np.clip(p.mean() - below, 0.0, 1.0), np.clip(p.mean() + above, 0.0, 1.0)


def adjusted_mean(
    share: ArrayLike, trials: ArrayLike, residuals: ByGroup | None = None, *, confidence: float = 0.95
) -> Limits:
    """Interval in 0..1 of the mean of K proportions by one variance for both sides (Price & Bonett 2004).

    2 / K successes and as many failures are added to each proportion, so that those of 0 and 1 have a variance.

    Args:
        share: (K,) the estimates.
        trials: (K,) trials of each, or effective sample sizes.
        residuals: (G, K) as for `mover_mean`.
        confidence: the nominal coverage.

    Returns:
        Low and high limits, which need not contain the mean; nan where a proportion is nan or there is none.
    """
    p, n = np.asarray(share, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if p.size == 0:
        return np.array(np.nan), np.array(np.nan)
    more = n + 4 / p.size
    centre = (p * n + 2 / p.size) / more
    half = normal_quantile(0.5 + confidence / 2) * _together(np.sqrt(centre * (1 - centre) / more), residuals)
    return np.clip(centre.mean() - half, 0.0, 1.0), np.clip(centre.mean() + half, 0.0, 1.0)


def mean_of_proportions(
    share: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    trials: ArrayLike,
    residuals: ByGroup | None = None,
    *,
    confidence: float = 0.95,
) -> Limits:
    """The wider limit on each side of `mover_mean` and, for two proportions or more, `adjusted_mean`.

    ``confidence`` is that of ``low`` and ``high``.

    The upper limit of MOVER alone is too low where rare classes are nearly all correct, and the other alone is too narrow
    where classes of few images are half correct. See docs/results/coverage.md.
    """
    limits = mover_mean(share, low, high, residuals)
    if np.size(share) < 2:
        return limits
    adjusted = adjusted_mean(share, trials, residuals, confidence=confidence)
    return np.minimum(limits[0], adjusted[0]), np.maximum(limits[1], adjusted[1])


def weighted_rate(weight: ArrayLike, trials: ArrayLike, more: float, *, confidence: float = 0.95) -> Limits:
    """Interval of sum weight / sum trials where few groups have a weight (the gamma interval of Fay & Feuer 1997).

    For weighted sums of rare events, such as errors by their squared distance: a gamma distribution of the same
    mean and variance; for the upper limit with one more event, of weight ``more``.

    Args:
        weight: (G,) of each group, 0 or more.
        trials: (G,) of each group.
        more: above 0, a plausible weight of an event that was not observed.
        confidence: the nominal coverage.

    Returns:
        Low and high limits, 0 or more; the rate lies between them.
    """
    w, m = np.asarray(weight, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    n, total = m.sum(), w.sum()
    variance = ((w - m * (total / n)) ** 2).sum()
    if variance <= 0:
        variance = (w**2).sum()  # that of a Poisson distribution, if all groups are equal
    tail = (1 - confidence) / 2
    low = _gamma_quantile(tail, total, variance) if total > 0 else 0.0
    high = _gamma_quantile(1 - tail, total + more, variance + more**2)
    return np.asarray(min(low, total) / n), np.asarray(max(high, total) / n)


def _gamma_quantile(at: float, mean: float, variance: float) -> float:
    return gamma_quantile(at, mean**2 / variance, variance / mean)


def _together(distance: FloatArray, residuals: ByGroup | None) -> FloatArray:
    """Distance of a mean of K proportions from those (K,) of each, never less than under independence."""
    squared = (distance**2).sum()
    if residuals is not None:
        correlation = _correlation(_as_floats(residuals))
        squared = np.maximum(squared, distance @ correlation @ distance)
    return np.asarray(np.sqrt(squared) / distance.size)


def _correlation(residuals: Any) -> FloatArray:
    """Uncentred correlations (K, K) of the residuals; 0 where one does not vary."""
    if isinstance(residuals, sparse.csr_array):
        covariance = (residuals.T @ residuals).toarray()
    else:
        # Not by BLAS, whose threads wait longer for each other than so narrow a product takes.
        covariance = np.einsum("gi,gj->ij", residuals, residuals)
    scale = np.sqrt(np.diagonal(covariance))
    product = np.outer(scale, scale)
    correlation = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


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
        residuals: (G, K) group residuals, see `group_residuals`; None where no mean of the values is taken.
        trials: (K,) effective sample sizes of plain proportions; None for other values.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    n: IntArray
    residuals: FloatArray | sparse.csr_array | None
    trials: FloatArray | None = None

    def estimate(self, index: int) -> Estimate:
        """The estimate at one index."""
        value, low, high = float(self.value[index]), float(self.low[index]), float(self.high[index])
        return Estimate(value, low, high, int(self.n[index]))

    def mean(self, present: NDArray[np.bool_], n: int) -> Estimate:
        """Mean of the values that ``present`` (K,) marks, with the limits of `mean_of_proportions`.

        Limits by MOVER alone for values that are no plain proportions; nan if none is marked.
        """
        if not present.any():
            return Estimate(np.nan, np.nan, np.nan, 0)
        assert self.residuals is not None
        value, residuals = self.value[present], self.residuals[:, present]
        of_each = value, self.low[present], self.high[present]
        if self.trials is None:
            low, high = mover_mean(*of_each, residuals)
        else:
            low, high = mean_of_proportions(*of_each, self.trials[present], residuals)
        return Estimate(float(value.mean()), float(low), float(high), n)


def proportions(
    value: FloatArray, hits: ByGroup, trials: ByGroup, n: IntArray, *, confidence: float = 0.95
) -> Proportions:
    """Proportions ``value`` (K,) of hits (G, K) among trials (G, K), with Wilson limits for clustered data."""
    effective = effective_sample_size(hits, trials, confidence=confidence)
    low, high = wilson(value, effective, confidence=confidence)
    return Proportions(value, low, high, n, group_residuals(hits, trials), effective)


def complement_proportions(
    value: FloatArray,
    size: IntArray,
    without: sparse.csr_array,
    either: sparse.csr_array,
    n: IntArray,
    *,
    times: int = 1,
    confidence: float = 0.95,
) -> Proportions:
    """Proportions ``value`` (K,) of the rest: hits are the images of a group without ``either``, trials those ``without``.

    As `proportions` of hits ``size - either`` among trials ``size - without``, without ever holding these (G, K) numbers, of
    which nearly all are large; it has no residuals.

    Args:
        size: (G,) images of each group.
        without, either: (G, K) of which ``without`` is a part; most groups have images of few of the K.
        n: (K,) see `Proportions`.
        times: that each image is counted in all of these numbers, which are integers.
    """
    left_out, mistaken = _as_floats(without), _as_floats(either)
    sizes = size.astype(np.float64)
    trials, hits = (sizes.sum() - part.sum(axis=0) for part in (left_out, mistaken))
    share = hits / np.maximum(trials, 1.0)
    # Hits minus share times trials, but for (1 - share) size.
    apart = (left_out.multiply(share[None, :]) - mistaken).tocsc()
    squares = (1 - share) ** 2 * (sizes**2).sum() + apart.multiply(apart).sum(axis=0)
    squares = squares + 2 * (1 - share) * (apart.T @ sizes)
    whole = left_out.tocoo()
    only = np.bincount(whole.col[whole.data >= sizes[whole.row]], minlength=len(share))
    groups = (len(sizes) - only).astype(np.float64)
    squares = squares / np.maximum(trials, 1.0) ** 2
    low, high = wilson(
        value, _effective(share, trials / times, groups, squares, confidence), confidence=confidence
    )
    return Proportions(value, low, high, n, None)


def f1_proportions(value: FloatArray, hits: ByGroup, union: ByGroup, n: IntArray) -> Proportions:
    """F1 with limits from the proportion F* = F1 / (2 - F1) of hits among TP + FP + FN."""
    of_union = proportions(value / (2 - value), hits, union, n)
    low, high = (2 * limit / (1 + limit) for limit in (of_union.low, of_union.high))
    return Proportions(value, np.minimum(low, value), np.maximum(high, value), n, of_union.residuals)


def joined(parts: Sequence[Proportions]) -> Proportions:
    """The values of all parts in one; without ``trials``, and with residuals if all parts have dense ones."""
    names = ("value", "low", "high", "n")
    value, low, high, n = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    residuals = [part.residuals for part in parts if isinstance(part.residuals, np.ndarray)]
    return Proportions(
        value, low, high, n, np.concatenate(residuals, axis=1) if len(residuals) == len(parts) else None
    )


def sums_by_group(values: NDArray[np.generic], group: IntArray) -> FloatArray:
    """Sums (G, K) of values (N, K) over the images of each group, given as codes (N,) in 0..G-1."""
    columns = values.T.astype(np.float64)
    return np.stack(
        [np.bincount(group, weights=column, minlength=group.max() + 1) for column in columns], axis=1
    )


def defined_mean(values: FloatArray) -> FloatArray:
    """Mean over the first axis without nan; nan where all are nan."""
    return metrics.mean_over(values.T, ~np.isnan(values.T))
