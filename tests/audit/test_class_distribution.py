"""The numbers of a tail, against closed forms and the definitions written out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tametail.audit.class_distribution import class_distribution, effective_classes, gini
from tametail.data import ImageTable

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
    rows = [(label, f"{label}{n // 2}") for label, k in (("a", 30), ("b", 6), ("c", 120)) for n in range(k)]
    frame = pd.DataFrame(rows, columns=["label", "group"], dtype=object).assign(split="")
    frame.insert(0, "image", [f"{number:03d}.png" for number in range(len(rows))])
    found = class_distribution(ImageTable(frame, Path("/data"), ("a", "b", "c"), "drawn"))
    assert [one.images for one in found.classes] == [120, 30, 6]
    assert [one.groups for one in found.classes] == [60, 15, 3]
    assert [one.share for one in found.classes] == pytest.approx([120 / 156, 30 / 156, 6 / 156])
    assert found.imbalance_ratio == pytest.approx(20)
    first = found.classes[0]
    assert first.effective == pytest.approx((1 - 0.999**first.images) / 0.001)
    assert [one.shot for one in found.classes] == ["many", "medium", "few"]
    assert not math.isnan(found.gini)


def test_imbalance_is_that_of_the_training_set() -> None:
    counts = {
        "train": {"a": 105, "b": 12, "c": 30},
        "val": {"a": 15, "b": 7, "c": 0},
        "test": {"a": 9, "b": 90, "c": 9},
    }
    rows = [
        (label, split) for split, per in counts.items() for label, count in per.items() for _ in range(count)
    ]
    frame = pd.DataFrame(rows, columns=["label", "split"], dtype=object)
    frame.insert(0, "image", [f"{number:03d}.png" for number in range(len(rows))])
    frame.insert(2, "group", frame["image"])
    found = class_distribution(ImageTable(frame, Path("/data"), ("a", "b", "c"), "drawn"))
    assert [(one.name, one.images, one.training, one.shot) for one in found.classes] == [
        ("a", 129, 120, "many"),
        ("c", 39, 30, "medium"),
        ("b", 109, 19, "few"),  # the second largest class of the set, and the rarest to train on
    ]
    assert found.classes[2].splits == {"train": 12, "val": 7, "test": 90}
    assert found.imbalance_ratio == pytest.approx(120 / 19)
    assert found.gini == pytest.approx(gini([120, 19, 30]))
