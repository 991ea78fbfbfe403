"""Standard error and 95 % interval of the difference of two models in recall, or in mean recall; valid for rare classes.

Shape legend: K cells (the images of one group and one class), G groups, C classes.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from tametail.core.arrays import FloatArray, IntArray

# Pseudo-images that are added to each interval, divided among its classes, with a maximum per class.
_PSEUDO_IMAGES, _PSEUDO_IMAGES_PER_CLASS = 4.0, 2.0
_QUANTILE = float(stats.norm.ppf(0.975))


def difference_limits(
    differences: FloatArray, images: FloatArray, group: IntArray, of_class: IntArray
) -> tuple[float, float]:
    """Limits in -1..1 of the mean over C classes of the difference in recall.

    The adjusted Wald interval for a linear function of proportions (Price & Bonett 2004), for pairs (Bonett & Price
    2012) and groups: 1.96 standard errors, see `difference_standard_error`, about the difference with the pseudo-images of each class
    added.

    Chosen by simulation (``make false-alarms``): Newcombe's square-and-add of Wilson limits, combined by MOVER, has the same
    coverage and is narrower where all classes are small, but about 1.5 times as wide where two models agree on most
    images, as trained ones do, and contains 0 in a quarter of such cases in which the test correctly finds a difference.

    Args:
        differences: (K,) correct images of one model minus those of the other in each cell (means over replicates).
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

    2 / C images that only one model classifies correctly are added to each class, and 2 / C that only the other does (one
    each if C is 1); the variance is cluster-robust. So a class of four images that both models classify correctly has a
    standard error above 0, unlike in a bootstrap.

    With few groups the variance is itself uncertain: it takes G / (G - 1) and, as Korn & Graubard (1998) do, the ratio
    of the t quantiles with G - 1 and n - 1 degrees of freedom, by class. Classes are correlated if groups have images of
    several; the standard error is never smaller than under independence.

    Args:
        differences, images, group, of_class: as for `difference_limits`.
    """
    groups, added, value = _by_class(differences, images, of_class)
    n = np.bincount(of_class, weights=images)
    few = stats.t.ppf(0.975, np.maximum(groups - 1, 1)) / stats.t.ppf(0.975, np.maximum(n - 1, 1))
    factor = np.maximum(few, 1.0) * np.sqrt(groups / np.maximum(groups - 1, 1))
    # A pseudo-image has the mean weight of a group of the class.
    scale = factor * groups / (n * (groups + added) * len(n))
    residuals = (differences - images * value[of_class]) * scale[of_class]
    together = np.bincount(group, weights=residuals)
    variance = max(float(together @ together), float(residuals @ residuals))
    variance += float((added / (groups + added) ** 2).sum()) / len(n) ** 2
    return float(variance**0.5)


def _by_class(
    differences: FloatArray, images: FloatArray, of_class: IntArray
) -> tuple[FloatArray, float, FloatArray]:
    """Groups of each class (C,), pseudo-images per class, and the differences in recall (C,)."""
    groups = np.bincount(of_class).astype(np.float64)
    added = min(_PSEUDO_IMAGES / len(groups), _PSEUDO_IMAGES_PER_CLASS)
    return groups, added, np.bincount(of_class, weights=differences) / np.bincount(of_class, weights=images)
