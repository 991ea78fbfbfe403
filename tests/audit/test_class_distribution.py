"""The numbers of a tail, against closed forms and the definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tametail.audit.class_distribution import class_distribution, effective_classes, gini
from tametail.data import read_images

COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=30).filter(any)


@given(COUNTS)
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    values = np.array(counts, dtype=float)
    differences = np.abs(values[:, None] - values[None, :]).mean()
    assert gini(counts) == pytest.approx(differences / (2 * values.mean()), abs=1e-9)


def test_gini_of_equal_counts_and_of_one_class() -> None:
    assert gini([7, 7, 7]) == pytest.approx(0)
    assert gini([0] * 99 + [5]) == pytest.approx(0.99)


@given(COUNTS)
def test_effective_classes_lie_between_one_and_all(counts: list[int]) -> None:
    assert 1 - 1e-9 <= effective_classes(counts) <= len(counts) + 1e-9
    assert effective_classes([max(counts)] * len(counts)) == pytest.approx(len(counts))


def test_classes_are_counted_in_images_and_in_groups() -> None:
    found = class_distribution(read_images("demo"))
    assert [one.images for one in found.classes] == sorted(
        (one.images for one in found.classes), reverse=True
    )
    assert sum(one.share for one in found.classes) == pytest.approx(1)
    assert found.imbalance_ratio == pytest.approx(found.classes[0].images / found.classes[-1].images)
    first = found.classes[0]
    assert first.effective == pytest.approx((1 - 0.999**first.images) / 0.001)
    assert all(1 <= one.groups <= one.images for one in found.classes)
    assert {one.shot for one in found.classes} <= {"many", "medium", "few"}
    assert not math.isnan(found.gini)
