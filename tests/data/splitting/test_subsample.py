"""A drawn tail: sizes fall exponentially, groups stay whole, the same seed draws the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable
from tametail.data.splitting.subsample import subsample, tail_sizes


def _table(counts: list[int], per_group: int = 1, split: str = "") -> ImageTable:
    labels = [f"c{c}" for c, count in enumerate(counts) for _ in range(count)]
    groups = [f"c{c}g{n // per_group}" for c, count in enumerate(counts) for n in range(count)]
    frame = pd.DataFrame(
        {
            "image": [f"{n:06}.png" for n in range(len(labels))],
            "label": labels,
            "group": groups,
            "split": split,
        },
        dtype=object,
    )
    return ImageTable(frame, Path(), tuple(sorted(set(labels))), "t")


def test_sizes_fall_by_equal_factors() -> None:
    assert tail_sizes(np.array([1000, 1000, 1000]), 100).tolist() == [1000, 100, 10]
    assert tail_sizes(np.array([10, 1000, 300]), 100).tolist() == [10, 1000, 100]
    assert tail_sizes(np.array([50, 50]), 1).tolist() == [50, 50]
    assert tail_sizes(np.array([400, 20, 400]), 10).tolist() == [200, 20, 63]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(60, 400), min_size=2, max_size=6),
    st.integers(1, 4),
    st.sampled_from([1.0, 3.0, 20.0]),
    st.integers(0, 5),
)
def test_a_drawn_tail_is_whole_and_near_its_sizes(
    counts: list[int], per_group: int, ratio: float, seed: int
) -> None:
    table = _table(counts, per_group)
    drawn = subsample(table, ratio, seed=seed)
    wanted = tail_sizes(np.array(counts), ratio)
    got = np.array(list(drawn.counts().values()))
    assert (np.abs(got - wanted) < per_group).all()
    sizes = table.frame["group"].value_counts().to_dict()
    assert all(count == sizes[group] for group, count in drawn.frame["group"].value_counts().items())
    again = subsample(table, ratio, seed=seed)
    assert again.fingerprint == drawn.fingerprint
    if per_group == 1 and ratio > 1:
        assert drawn.imbalance_ratio == pytest.approx(ratio, rel=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_several_classes_come_near_the_ratio(seed: int) -> None:
    """100 patients with some images of one to three of six classes, as in a hospital."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"p{patient}", f"c{c}")
        for patient in range(100)
        for c in rng.choice(6, rng.integers(1, 4), replace=False)
        for _ in range(rng.integers(1, 12))
    ]
    groups, labels = zip(*rows, strict=True)
    images = [f"{n:06}.png" for n in range(len(rows))]
    frame = pd.DataFrame({"image": images, "label": labels, "group": groups, "split": ""}, dtype=object)
    table = ImageTable(frame, Path(), tuple(sorted(set(labels))), "t")
    drawn = subsample(table, 8, seed=seed)
    assert drawn.imbalance_ratio == pytest.approx(8, rel=0.35)
    whole = table.frame["group"].value_counts().to_dict()
    assert all(count == whole[group] for group, count in drawn.frame["group"].value_counts().items())
    exact = subsample(table, 8, seed=seed, single_images=True)
    assert sorted(exact.counts().values()) == sorted(
        tail_sizes(np.array(list(table.counts().values())), 8).tolist()
    )


def test_a_class_that_is_only_in_the_test_set_is_named() -> None:
    table = _table([30, 30])
    frame = table.frame.copy()
    frame.loc[frame["label"] == "c1", "split"] = "test"
    with pytest.raises(DataError, match="found none of c1"):
        subsample(ImageTable(frame, Path(), table.class_names, "t"), 2)


def test_another_seed_draws_others() -> None:
    table = _table([200, 200])
    assert subsample(table, 10, seed=0).fingerprint != subsample(table, 10, seed=1).fingerprint


def test_a_given_test_set_stays() -> None:
    table = _table([100, 100])
    frame = table.frame.copy()
    frame.loc[frame.index % 5 == 0, "split"] = "test"
    drawn = subsample(ImageTable(frame, Path(), table.class_names, "t"), 8)
    assert (drawn.frame["split"] == "test").sum() == 40
    open_part = drawn.frame[drawn.frame["split"] != "test"]["label"].value_counts()
    assert open_part.tolist() == [80, 10]


@pytest.mark.parametrize(
    ("ratio", "seed", "error", "message"),
    [
        (0.5, 0, UsageError, "ratio of 1 or more"),
        (float("nan"), 0, UsageError, "a number for --ratio"),
        (2, -1, UsageError, "seed"),
        (500, 0, DataError, "smaller ratio"),
    ],
)
def test_what_cannot_be_drawn_is_named(ratio: float, seed: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        subsample(_table([100, 100]), ratio, seed=seed)


def test_groups_too_large_for_the_tail_come_as_near_as_they_can() -> None:
    drawn = subsample(_table([100, 100], per_group=50), 20)
    assert list(drawn.counts().values()) == [100, 50], "as near as whole groups come"
