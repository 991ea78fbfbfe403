"""Standard error and 95 % interval for the difference of two models' recalls, or of their mean, honest where classes are rare.

Shape legend: K cells (the images of one group and one class), G groups, C classes.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from tametail.core.arrays import FloatArray, IntArray

# Images of no model's favour that are imagined into each interval, shared out among its classes; not more to any.
_IMAGINED, _IMAGINED_IN_A_CLASS = 4.0, 2.0
_QUANTILE = float(stats.norm.ppf(0.975))


def difference_limits(
    differences: FloatArray, images: FloatArray, group: IntArray, of_class: IntArray
) -> tuple[float, float]:
    """Limits in -1..1 of the mean over C classes of the difference in recall.

    The adjusted Wald interval for a linear function of proportions (Price & Bonett 2004), for pairs (Bonett & Price
    2012) and groups: 1.96 standard errors, see `difference_standard_error`, about the difference to which each class's
    imagined images are added.

    Chosen by simulation (``make false-alarms``): Newcombe's square-and-add of Wilson limits, put together by MOVER, covers
    as well and is narrower where all classes are small, but about one and a half times as wide where two models agree
    on most images, as trained ones do, and holds 0 in a quarter of such cases where the test rightly sees a difference.

    Args:
        differences: (K,) hits of the one model less those of the other in each cell (means over replicates).
        images: (K,) of each cell, at least 1.
        group: (K,) codes 0..G-1.
        of_class: (K,) codes 0..C-1, each with at least one cell.
    """
    groups, added, value = _by_class(differences, images, of_class)
    half = _QUANTILE * difference_standard_error(differences, images, group, of_class)
    centre, mean = float((value * groups / (groups + added)).mean()), float(value.mean())
    return max(min(centre - half, mean), -1.0), min(max(centre + half, mean), 1.0)


def difference_standard_error(
    differences: FloatArray, images: FloatArray, group: IntArray, of_class: IntArray
) -> float:
    """Standard error of the mean over C classes of the difference in recall, above 0.

    To each class 2 / C images are added that only the one model gets right, and 2 / C that only the other does (one and
    one where C is 1); then the variance is the cluster-robust one. So a class whose four images both models get right
    still has an error, which it has not in a bootstrap, and not that of a class of which nothing is known.

    With few groups the variance is itself uncertain: it takes G / (G - 1) and, as Korn & Graubard (1998) do, the ratio
    of the t quantiles with G - 1 and n - 1 degrees of freedom, by class. Classes err together where groups hold several;
    the error is never made smaller than under independence.

    Args:
        differences, images, group, of_class: as for `difference_limits`.
    """
    groups, added, value = _by_class(differences, images, of_class)
    n = np.bincount(of_class, weights=images)
    few = stats.t.ppf(0.975, np.maximum(groups - 1, 1)) / stats.t.ppf(0.975, np.maximum(n - 1, 1))
    factor = np.maximum(few, 1.0) * np.sqrt(groups / np.maximum(groups - 1, 1))
    # An imagined image is as heavy as a group of the class is on average.
    scale = factor * groups / (n * (groups + added) * len(n))
    residuals = (differences - images * value[of_class]) * scale[of_class]
    together = np.bincount(group, weights=residuals)
    variance = max(float(together @ together), float(residuals @ residuals))
    variance += float((added / (groups + added) ** 2).sum()) / len(n) ** 2
    return float(variance**0.5)


def _by_class(
    differences: FloatArray, images: FloatArray, of_class: IntArray
) -> tuple[FloatArray, float, FloatArray]:
    """Groups of each class (C,), images imagined into each, and the differences in recall (C,)."""
    groups = np.bincount(of_class).astype(np.float64)
    added = min(_IMAGINED / len(groups), _IMAGINED_IN_A_CLASS)
    return groups, added, np.bincount(of_class, weights=differences) / np.bincount(of_class, weights=images)
