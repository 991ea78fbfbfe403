"""McNemar's exact test of two models, class by class, with groups as units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tametail.core.arrays import FloatArray
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.paired import Correctness, correctness, difference_limits
from tametail.evaluation.significance import Verdict, holm, permutation_p, verdict
from tametail.predictions.single_label import Predictions


@dataclass(frozen=True)
class ClassTest:
    """Recall of one class, model a compared with model b.

    Attributes:
        name: the class.
        n: its images.
        groups: distinct groups with an image of it, the units of the test.
        only_a: its images that only a classifies correctly, mean over the pairs of replicates.
        only_b: its images that only b classifies correctly.
        difference: recall of a minus that of b, with its 95 % interval; nan where the class is absent.
        p: exact, of this class alone; nan where the class is absent.
        p_holm: p after Holm's correction over the classes present.
        verdict: on a, see `significance.verdict`; "absent" for a class without an image.
    """

    name: str
    n: int
    groups: int
    only_a: float
    only_b: float
    difference: Estimate
    p: float
    p_holm: float
    verdict: Verdict | Literal["absent"]


def mcnemar_by_class(
    a: Sequence[Predictions], b: Sequence[Predictions], *, resamples: int = 10_000, seed: int = 0
) -> tuple[ClassTest, ...]:
    """Test the recall of every class.

    If every image is its own group and each model has one table, this is McNemar's exact test; otherwise the sign-flip
    permutation test of the groups' differences, of which McNemar's is a special case. Mid-p has more power, but exceeds
    its level at some sample sizes (Fagerland, Lydersen & Laake 2013).

    Args:
        a, b: tables over the same images, e.g. one per seed (folds joined).
        resamples, seed: of the sign flips, if they cannot be enumerated.

    Returns:
        One test per class, in the order of the class names.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes.
    """
    counted = correctness({"a": a, "b": b})
    differences, nan = counted.differences(0, 1), float("nan")
    absent = Estimate(nan, nan, nan, 0)
    tests = [ClassTest(name, 0, 0, 0.0, 0.0, absent, nan, nan, "absent") for name in counted.class_names]
    p = np.full(len(tests), np.nan)
    cells = {int(index): counted.of_class == code for code, index in enumerate(np.unique(counted.target))}
    for index, own in cells.items():
        p[index] = permutation_p(differences[own], resamples=resamples, seed=seed)
    corrected = holm(p)
    for index, own in cells.items():
        tests[index] = _test(
            counted, index, differences[own], counted.images[own], float(p[index]), float(corrected[index])
        )
    return tuple(tests)


def _test(
    counted: Correctness, index: int, differences: FloatArray, images: FloatArray, p: float, p_holm: float
) -> ClassTest:
    a, b = (right[counted.target == index] for right in counted.right)
    n, groups = len(a), len(images)
    low, high = difference_limits(differences, images, np.arange(groups), np.zeros(groups, dtype=np.int64))
    value = float(differences.sum()) / n
    value = 0.0 if abs(value) < 1e-12 else value
    difference = Estimate(value, min(low, value), max(high, value), n)
    only_a, only_b = float((a * (1 - b)).sum()), float((b * (1 - a)).sum())
    name, found = counted.class_names[index], verdict(difference, p_holm)
    return ClassTest(name, n, groups, only_a, only_b, difference, p, p_holm, found)
