"""The corrected resampled t test of two methods over seeds and folds.

Shape legend: S seeds, F folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tametail.evaluation.distributions import t_quantile, t_two_sided


@dataclass(frozen=True)
class ResampledT:
    """Method a compared with method b over runs.

    Attributes:
        difference: mean score of a minus that of b.
        low, high: its 95 % interval; nan where undefined.
        p: two-sided; nan where undefined.
        runs: pairs of runs, S times F.
    """

    difference: float
    low: float
    high: float
    p: float
    runs: int


def resampled_t(
    a_scores: ArrayLike, b_scores: ArrayLike, train_images: float, test_images: float
) -> ResampledT:
    """Compare the scores of two methods trained and tested on the same folds with the same seeds.

    Runs share training images, so that the standard t test rejects far too often. Nadeau & Bengio (2003) put the variance
    of the mean of J differences at ``(1 / J + test_images / train_images) s²``, with J - 1 degrees of freedom; Bouckaert &
    Frank (2004) use it, as here, for repeated cross-validation with J = S F. It is an approximation: more seeds on the
    same folds narrow the interval only down to the second term.

    Args:
        a_scores, b_scores: (S, F) scores of the runs, the same seed and fold at the same place.
        train_images, test_images: of one run; for k folds, test / train is 1 / (k - 1).

    Returns:
        Limits and p are nan for a single run, or if all differences are equal but not 0. If all are 0, the interval is
        0 to 0, with p = 1.

    Raises:
        ValueError: shapes differ or are not (S, F), a score is missing (nan), or a number of images is not positive.
    """
    a, b = np.asarray(a_scores, dtype=np.float64), np.asarray(b_scores, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.size == 0:
        raise ValueError(f"expected two arrays of scores (seeds, folds), got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("expected a score of every seed and fold, some are missing")
    if not (train_images > 0 and test_images > 0):
        raise ValueError(f"expected numbers of images above 0, got {train_images} and {test_images}")
    differences = (a - b).ravel()
    runs, mean = differences.size, float(differences.mean())
    rounding = 1e-12 * max(1.0, float(np.abs(a).max()))
    if np.ptp(differences) <= rounding:
        if abs(mean) <= rounding and runs > 1:
            return ResampledT(0.0, 0.0, 0.0, 1.0, runs)
        return ResampledT(mean, float("nan"), float("nan"), float("nan"), runs)
    error = float(np.sqrt((1 / runs + test_images / train_images) * differences.var(ddof=1)))
    half = float(t_quantile(0.975, runs - 1)) * error
    return ResampledT(mean, mean - half, mean + half, t_two_sided(mean / error, runs - 1), runs)
