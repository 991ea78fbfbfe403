from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tametail.core.errors import DataError
from tametail.data import ImageTable, Splits, check_folds, make_splits
from tametail.data.splitting.stratification import images_by_group, label_strata, stratify_labels

NAMES = ("edema", "mass", "nodule", "scar")


def make_table(labels: np.ndarray, groups: np.ndarray, split: list[str] | str = "") -> ImageTable:
    frame = pd.DataFrame(
        {
            "image": [f"{number:05d}.png" for number in range(len(labels))],
            "label": ["|".join(np.array(NAMES)[row]) for row in labels],
            "group": [f"p{group}" for group in groups],
            "split": split,
        },
        dtype=object,
    )
    return ImageTable(frame, Path("/data"), NAMES, "drawn", multi_label=True)


def drawn_table(seed: int, images: int = 400, per_group: int = 1) -> ImageTable:
    """Labels of falling frequency that come together more often than by chance; about half the images have none."""
    rng = np.random.default_rng(seed)
    severe = rng.choice([0.2, 1.6], (images, 1))
    labels = rng.random((images, len(NAMES))) < np.array([0.4, 0.2, 0.1, 0.05]) * severe
    return make_table(labels, rng.permutation(images) // per_group)


def assert_sound(table: ImageTable, splits: Splits, first: int = -1) -> None:
    parts = range(-1, splits.folds)
    groups = [set(table.groups[splits.fold == part]) for part in parts]
    assert sum(map(len, groups)) == len(set(table.groups)), "a group is divided"
    for part in range(first, splits.folds):
        assert table.labels[splits.fold == part].any(axis=0).all(), f"a label is missing in {part}"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 4), st.sampled_from([0.1, 0.2, 0.35]))
def test_no_group_is_divided_and_every_label_is_everywhere(
    seed: int, per_group: int, folds: int, fraction: float
) -> None:
    table = drawn_table(seed, per_group=per_group)
    splits = make_splits(table, folds=folds, test_fraction=fraction, seed=seed)
    assert_sound(table, splits)
    assert not splits.given


@pytest.mark.parametrize(("per_group", "slack"), [(1, 1.0), (3, 3.0)])
def test_every_label_and_its_absence_have_their_shares(per_group: int, slack: float) -> None:
    """Nearer than by chance, where the rarest label of 20 images strays by 2 from fold to fold."""
    for seed in range(5):
        table = drawn_table(seed, per_group=per_group)
        splits = make_splits(table, seed=seed)
        for held in label_strata(table).T:
            counts = np.bincount(splits.fold[held] + 1, minlength=6)
            assert abs(counts[0] - 0.2 * held.sum()) <= slack
            assert np.abs(counts[1:] - (held.sum() - counts[0]) / 5).max() <= slack


def test_labels_that_come_together_are_one_label() -> None:
    """Two labels on the same images, and one group per image: the parts of one are those of the other."""
    twice = np.repeat([[True, True, False, False], [False, False, True, True]], 60, axis=0)
    splits = make_splits(make_table(twice, np.arange(120)), folds=4)
    for half in (slice(60), slice(60, 120)):
        assert np.bincount(splits.fold[half] + 1).tolist() == [12] * 5


def test_the_rarest_possible_label_is_spread_over_test_and_folds() -> None:
    labels = np.zeros((120, 4), dtype=bool)
    labels[:, 0], labels[::3, 1], labels[1::4, 2], labels[:6, 3] = True, True, True, True
    for seed in range(10):
        splits = make_splits(make_table(labels, np.arange(120)), folds=5, seed=seed)
        assert np.bincount(splits.fold[labels[:, 3]] + 1).tolist() == [1] * 6


def test_groups_are_placed_where_they_lack_most() -> None:
    """By hand. Label 0 is rarest: its groups of 3, 2 and 1 images go first, the last to the part of the 2."""
    of_strata = np.array([[1, 0]] * 6 + [[0, 1]] * 8, dtype=bool)
    member = np.array([0, 0, 0, 1, 1, 2] + [3] * 4 + [4] * 4)
    for seed in range(4):
        strata = images_by_group(member, of_strata)
        part = stratify_labels(strata, np.array([0.5, 0.5]), np.random.default_rng(seed))
        assert part[0] != part[1] == part[2]
        assert part[3] != part[4]
        counts = np.array([strata[part == side].sum(axis=0) for side in (0, 1)])
        assert counts.tolist() == [[3, 4, 7]] * 2


def test_the_seed_decides() -> None:
    table = drawn_table(3, per_group=2)
    first, again, other = (make_splits(table, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_splits_are_those_of_every_other_machine() -> None:
    """Golden: a change here makes old studies and new ones incomparable."""
    labels = np.array([[n % 2, n % 3 == 0, n % 5 == 0, n % 7 == 0] for n in range(60)], dtype=bool)
    splits = make_splits(make_table(labels, np.arange(60) // 2), folds=3, seed=1)
    assert "".join("t012"[fold + 1] for fold in splits.fold) == GOLDEN


GOLDEN = "112211tt00000000111122002200tt00111111tt2222tttt001122tt2222"


def test_a_given_test_set_is_kept() -> None:
    labels = drawn_table(0).labels
    split = ["test" if n % 4 == 0 else "" for n in range(len(labels))]
    table = make_table(labels, np.arange(len(labels)), split)
    splits = make_splits(table, folds=3)
    assert splits.given
    assert ((splits.part == "test") == (table.frame["split"] == "test")).all()
    assert_sound(table, splits, first=0)


def rare(groups: int) -> ImageTable:
    labels = np.zeros((90, 4), dtype=bool)
    labels[:, :3] = True
    labels[: 2 * groups, 3] = True
    return make_table(labels, np.arange(90) // 2)


def test_too_few_groups_of_a_label_are_named_with_what_is_possible() -> None:
    with pytest.raises(DataError, match=r"at least 6 groups .*'scar' has 5; use at most 4 folds"):
        check_folds(rare(5), 5)
    assert_sound(rare(5), make_splits(rare(5), folds=4))
    with pytest.raises(DataError, match=r"'scar' has 2; add images"):
        make_splits(rare(2))


def test_a_table_with_one_label_per_image_divides_like_one() -> None:
    """Labels that exclude each other: as even as classes are."""
    labels = np.eye(4, dtype=bool)[np.arange(200) % 4]
    splits = make_splits(make_table(labels, np.arange(200)))
    assert label_strata(make_table(labels, np.arange(200))).shape == (200, 4)
    for label in range(4):
        assert np.bincount(splits.fold[labels[:, label]] + 1).tolist() == [10] + [8] * 5
