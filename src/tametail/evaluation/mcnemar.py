"""McNemar's exact test of two models, class by class, with groups as units.

Shape legend: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tametail.evaluation.correctness import Correctness, correctness
from tametail.evaluation.paired_interval import difference_limits
from tametail.evaluation.permutation_test import permutation_p
from tametail.evaluation.proportions import Estimate
from tametail.evaluation.verdicts import Verdict, holm, verdict
from tametail.predictions.single_label import Predictions

MCNEMAR_QUESTION = (
    "In which classes would these trained models differ in recall on other images of this kind? Adjusted for multiple "
    "testing (Holm). A class in which the models differ on fewer than six patients (or lesions, or single images) can "
    "never reach significance at the 5 % level."
)


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
        verdict: on a, see `verdicts.verdict`; "absent" for a class without an image.
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

    If every image is its own group and each model has one table, this is McNemar's exact test. Groups of several images
    and means over replicates use the sign-flip permutation test of the groups' differences, of which McNemar's test is
    a special case. The exact test is used and not mid-p, which has more power but exceeds its level at some sample sizes
    (Fagerland, Lydersen & Laake 2013).

    Args:
        a, b: tables over the same images, e.g. one per seed (folds joined).
        resamples, seed: of the sign flips, if they cannot be enumerated.

    Returns:
        C tests in the order of the class names.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes.
    """
    counted = correctness({"a": a, "b": b})
    differences = counted.differences(0, 1)
    present = np.unique(counted.target)
    tests = dict(enumerate(_absent(name) for name in counted.class_names))
    p = np.full(len(counted.class_names), np.nan)
    for code, index in enumerate(present):
        cells = counted.of_class == code
        p[index] = permutation_p(differences[cells], resamples=resamples, seed=seed)
        tests[int(index)] = _test(
            counted, int(index), differences[cells], counted.images[cells], float(p[index])
        )
    corrected = holm(p)
    return tuple(
        _with_verdict(test, float(of_class)) for test, of_class in zip(tests.values(), corrected, strict=True)
    )


def _absent(name: str) -> ClassTest:
    nan = float("nan")
    return ClassTest(name, 0, 0, 0.0, 0.0, Estimate(nan, nan, nan, 0), nan, nan, "absent")


def _test(
    counted: Correctness, index: int, differences: NDArray[np.float64], images: NDArray[np.float64], p: float
) -> ClassTest:
    a, b = (right[counted.target == index] for right in counted.right)
    n, groups = len(a), len(images)
    low, high = difference_limits(differences, images, np.arange(groups), np.zeros(groups, dtype=np.int64))
    value = float(differences.sum()) / n
    value = 0.0 if abs(value) < 1e-12 else value
    difference = Estimate(value, min(low, value), max(high, value), n)
    only_a, only_b = float((a * (1 - b)).sum()), float((b * (1 - a)).sum())
    return ClassTest(
        counted.class_names[index], n, groups, only_a, only_b, difference, p, p, "no significant difference"
    )


def _with_verdict(test: ClassTest, p_holm: float) -> ClassTest:
    if test.verdict == "absent":
        return test
    return replace(test, p_holm=p_holm, verdict=verdict(test.difference, p_holm))
