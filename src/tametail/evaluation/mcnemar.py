"""Two models compared class by class on the same images: McNemar's test, exact, with groups as units.

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
    "In which classes would these trained models, as they are, differ in recall on other images of this kind? Corrected "
    "(Holm), as among many classes some differ by chance. A class in which the models differ on fewer "
    "than six patients (or lesions, or images that belong to nobody else) can never show it at the 5 % level."
)


@dataclass(frozen=True)
class ClassTest:
    """Recall of one class by model a beside that by model b.

    Attributes:
        name: the class.
        n: its images.
        groups: distinct groups with an image of it, the units of the test.
        only_a: its images that a alone gets right, mean over the pairs of replicates.
        only_b: its images that b alone gets right.
        difference: recall of a less that of b, with its 95 % interval; nan where the class is absent.
        p: exact, of this class alone; nan where the class is absent.
        p_holm: p after Holm's correction over the classes present.
        verdict: on a; told apart where ``p_holm`` is at most 5 % and the interval is beside 0; "absent" where no image is of the class.
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

    Where every image is its own group and each model has one table this is McNemar's exact test (the discordant images
    as coin tosses). Groups of several images, and means over replicates, take the sign flips of the groups' differences
    instead, of which that test is a special case. The exact test and not its mid-p form: mid-p has more power but
    exceeds its level at some sample sizes (Fagerland, Lydersen & Laake 2013), and for rare classes, which are the point
    here, a level that holds matters more.

    Args:
        a, b: tables over the same images, e.g. one per seed (folds joined).
        resamples, seed: of the sign flips where they cannot be listed.

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
        _judged(test, float(of_class)) for test, of_class in zip(tests.values(), corrected, strict=True)
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


def _judged(test: ClassTest, p_holm: float) -> ClassTest:
    if test.verdict == "absent":
        return test
    return replace(test, p_holm=p_holm, verdict=verdict(test.difference, p_holm))
