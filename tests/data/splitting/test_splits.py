from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tametail.core.errors import DataError, TametailError, UsageError
from tametail.data import ImageTable, Splits, check_folds, load_splits, make_splits, read_images, save_splits

REAL = Path(__file__).parents[4] / "shared" / "data"
Row = tuple[str, str, str]  # label, group, split


def make_table(rows: list[Row]) -> ImageTable:
    frame = pd.DataFrame(rows, columns=["label", "group", "split"], dtype=object)
    frame.insert(0, "image", [f"{number:05d}.png" for number in range(len(rows))])
    return ImageTable(frame, Path("/data"), tuple(sorted(set(frame["label"]))), "drawn")


@st.composite
def grouped_rows(draw: st.DrawFn, folds: int, several: bool) -> list[Row]:
    """Classes of one label per group, each with folds + 1 groups or more of one or several images."""
    rows: list[Row] = []
    for label in range(draw(st.integers(2, 4))):
        groups = draw(st.integers(folds + 1, 4 * folds))
        for group in range(groups):
            images = draw(st.integers(1, 4)) if several else 1
            rows += [(f"c{label}", f"g{label}_{group}", "")] * images
    return draw(st.permutations(rows))


def groups_by_part(table: ImageTable, splits: Splits) -> dict[int, set[str]]:
    return {int(fold): set(table.groups[splits.fold == fold]) for fold in np.unique(splits.fold)}


def assert_sound(table: ImageTable, splits: Splits, *, classes_in_test: bool = True) -> None:
    assert splits.image.tolist() == table.images.tolist()
    assert set(np.unique(splits.fold)) == set(range(-1, splits.folds))
    assert ((splits.fold == -1) == (splits.part == "test")).all()
    assert set(splits.part) == {"train", "test"}
    parts = groups_by_part(table, splits)
    assert sum(len(groups) for groups in parts.values()) == len(set(table.groups)), "a group is divided"
    for fold in range(0 if not classes_in_test else -1, splits.folds):
        present = set(table.frame["label"][splits.fold == fold])
        assert present == set(table.class_names), f"classes missing in {fold}"


@settings(max_examples=12, deadline=None)
@given(
    st.data(), st.integers(2, 5), st.booleans(), st.sampled_from([0.1, 0.2, 0.3, 0.5]), st.integers(0, 10**6)
)
def test_no_group_is_divided_and_every_class_is_everywhere(
    data: st.DataObject, folds: int, several: bool, fraction: float, seed: int
) -> None:
    table = make_table(data.draw(grouped_rows(folds, several)))
    splits = make_splits(table, folds=folds, test_fraction=fraction, seed=seed)
    assert_sound(table, splits)
    assert not splits.given


@settings(max_examples=8, deadline=None)
@given(st.data(), st.integers(0, 10**6))
def test_groups_of_several_labels_are_legal(data: st.DataObject, seed: int) -> None:
    """With groups enough; where they are scarce, several labels can make it impossible."""
    labels = st.sampled_from(["a", "b", "c"])
    groups = data.draw(st.lists(st.lists(labels, min_size=1, max_size=4), min_size=40, max_size=60))
    groups += [["a"], ["b"], ["c"]] * 4
    table = make_table([(label, f"g{number}", "") for number, group in enumerate(groups) for label in group])
    assert_sound(table, make_splits(table, folds=3, seed=seed))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5]), st.booleans())
def test_fractions_hold_in_every_class(seed: int, fraction: float, several: bool) -> None:
    rows = [
        (label, f"{label}{n // 2 if several else n}", "")
        for label, k in (("a", 200), ("b", 80))
        for n in range(k)
    ]
    table = make_table(rows)
    splits = make_splits(table, folds=4, test_fraction=fraction, seed=seed)
    slack = 0.01 + (0.02 if several else 0)
    for label, images in table.counts().items():
        own = splits.fold[table.frame["label"] == label]
        assert abs((own == -1).mean() - fraction) <= slack + 1 / images
        sizes = np.bincount(own[own >= 0])
        assert sizes.max() - sizes.min() <= (6 if several else 1)


def test_the_rarest_possible_class_is_spread_over_test_and_folds() -> None:
    """Six groups for five folds and the test set: exactly one in each, whatever the seed."""
    rows = [("many", f"m{n}", "") for n in range(60)] + [("rare", f"r{n % 6}", "") for n in range(18)]
    table = make_table(rows)
    for seed in range(5):
        splits = make_splits(table, folds=5, seed=seed)
        rare = table.frame["label"] == "rare"
        assert np.bincount(splits.fold[rare] + 1).tolist() == [3] * 6


def test_the_seed_decides() -> None:
    table = make_table([(label, f"{label}{n}", "") for label in "ab" for n in range(40)])
    first, again, other = (make_splits(table, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint
    assert np.array_equal(first.fold, again.fold)
    assert first.fingerprint != other.fingerprint


def write_csv(path: Path, order: np.ndarray) -> Path:
    rows = [f"i{n:03d}.png,{'abc'[n % 3 if n % 7 else 0]},p{n // 2}" for n in range(120)]
    for n in range(120):
        (path.parent / f"i{n:03d}.png").touch()
    path.write_text("\n".join(["image,label,group", *(rows[n] for n in order)]))
    return path


def test_row_order_does_not_matter(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", np.arange(120))
    fingerprint = make_splits(read_images(path), seed=5).fingerprint
    shuffled = write_csv(tmp_path / "b.csv", np.random.default_rng(0).permutation(120))
    assert make_splits(read_images(shuffled), seed=5).fingerprint == fingerprint


@pytest.mark.parametrize("several", [False, True])
def test_splits_are_those_of_every_other_machine(several: bool) -> None:
    """Golden, and so those of every process: a change here makes old studies and new ones incomparable."""
    rows = [
        (label, f"{label}{n // 3 if several else n}", "")
        for label, k in (("a", 30), ("b", 18))
        for n in range(k)
    ]
    splits = make_splits(make_table(rows), folds=3, seed=1)
    folds = "".join("t012"[fold + 1] for fold in splits.fold)
    assert folds == (THREES if several else SINGLE)


SINGLE = "021t1t201t02t1120020t1100t22212tt12tt11002210010"
THREES = "111tttttt222222111000000111000000111222000ttt222"


def test_a_given_test_set_is_kept_and_the_rest_goes_to_the_folds() -> None:
    splits_of = ["test", "train", "val", ""]
    table = make_table([(label, f"{label}{n}", splits_of[n % 4]) for label in "ab" for n in range(24)])
    splits = make_splits(table, folds=3)
    assert splits.given
    assert ((splits.part == "test") == (table.frame["split"] == "test")).all()
    assert_sound(table, splits)


def test_given_train_and_val_without_test_get_a_drawn_hold_out() -> None:
    table = make_table([(label, f"{label}{n}", ["train", "val"][n % 2]) for label in "ab" for n in range(24)])
    splits = make_splits(table, folds=3)
    assert not splits.given
    assert 0.1 < (splits.part == "test").mean() < 0.3


def test_a_class_may_be_absent_from_a_given_test_set() -> None:
    rows = [("a", f"a{n}", "test" if n < 3 else "") for n in range(12)] + [
        ("b", f"b{n}", "") for n in range(4)
    ]
    assert_sound(make_table(rows), make_splits(make_table(rows), folds=4), classes_in_test=False)


def rare(groups: int, split: str = "") -> ImageTable:
    rows = [("many", f"m{n}", "test" if split and n < 5 else "") for n in range(40)]
    return make_table(rows + [("rare", f"r{n % groups}", "") for n in range(3 * groups)])


@pytest.mark.parametrize(
    ("groups", "split", "message"),
    [
        (5, "", r"at least 6 groups .*'rare' has 5; use at most 4 folds"),
        (2, "", r"'rare' has 2; add images"),
        (4, "test", r"at least 5 groups outside the given test set .*'rare' has 4; use at most 4 folds"),
    ],
)
def test_too_few_groups_are_named_with_what_is_possible(groups: int, split: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_splits(rare(groups, split), folds=5)


@pytest.mark.parametrize(("groups", "split", "most"), [(5, "", 4), (5, "test", 5), (3, "", 2)])
def test_folds_can_be_checked_before_anything_is_drawn(groups: int, split: str, most: int) -> None:
    table = rare(groups, split)
    for folds in range(2, most + 1):
        check_folds(table, folds)
        assert make_splits(table, folds=folds).given == bool(split)
    with pytest.raises(DataError, match="'rare' has") as checked:
        check_folds(table, most + 1)
    with pytest.raises(DataError) as made:
        make_splits(table, folds=most + 1)
    assert str(checked.value) == str(made.value)
    with pytest.raises(UsageError, match="at least 2 folds, got 1"):
        check_folds(table, 1)


def test_what_the_message_says_is_possible_is_possible() -> None:
    assert_sound(rare(5), make_splits(rare(5), folds=4))


def test_groups_in_each_others_way_are_named() -> None:
    """Three classes on three pairs of three groups: whichever two groups share a fold, a class misses the other."""
    rows = [("a", "0"), ("a", "1"), ("b", "1"), ("b", "2"), ("c", "0"), ("c", "2")]
    table = make_table([(label, group, "") for label, group in rows] + [("a", "3", "test")])
    with pytest.raises(DataError, match=r"groups of '.' cannot be distributed .* use fewer folds"):
        make_splits(table, folds=2)


def test_few_images_in_all_classes_still_get_a_hold_out() -> None:
    """Fewer than the five or ten parts that the fraction asks for."""
    table = make_table([(label, f"{label}{n}", "") for label in "ab" for n in range(3)])
    for fraction in (0.01, 0.1, 0.2, 0.5):
        assert_sound(table, make_splits(table, folds=2, test_fraction=fraction))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "at least 2 folds, got 1"),
        ({"test_fraction": 0.0}, "above 0 and up to 0.5, got 0.0"),
        ({"test_fraction": 0.6}, "got 0.6"),
        ({"test_fraction": float("nan")}, "got nan"),
        ({"seed": -1}, "seed of 0 or more, got -1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_splits(rare(10), **options)


def test_saved_splits_come_back_and_are_read_only(tmp_path: Path) -> None:
    splits = make_splits(rare(8), folds=4, seed=2)
    path = tmp_path / "splits.csv"
    save_splits(splits, path)
    save_splits(splits, path)  # over a read-only file
    assert path.stat().st_mode & 0o222 == 0
    assert path.read_text().splitlines()[0] == "image,part,fold"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == splits.fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["splits.csv"]
    back = load_splits(path, folds=4, seed=2, given=False, fingerprint=splits.fingerprint)
    for field in ("image", "part", "fold"):
        assert np.array_equal(getattr(back, field), getattr(splits, field))
    assert (back.folds, back.seed, back.given, back.fingerprint) == (4, 2, False, splits.fingerprint)
    assert back.fold.dtype == np.int64


def test_odd_image_names_survive(tmp_path: Path) -> None:
    table = rare(8)
    table.frame["image"] = [f'ü "{number:03d}", x\n.png' for number in range(len(table))]
    splits = make_splits(table)
    save_splits(splits, tmp_path / "s.csv")
    back = load_splits(tmp_path / "s.csv", folds=5, seed=0, given=False, fingerprint=splits.fingerprint)
    assert back.image.tolist() == table.images.tolist()


def test_edited_or_absent_splits_are_refused(tmp_path: Path) -> None:
    splits = make_splits(rare(8))
    path = tmp_path / "splits.csv"
    with pytest.raises(DataError, match="expected the splits"):
        load_splits(path, folds=5, seed=0, given=False, fingerprint=splits.fingerprint)
    save_splits(splits, path)
    text = path.read_text().replace("test,-1", "train,0", 1)
    path.chmod(0o644)
    path.write_text(text)
    with pytest.raises(DataError, match="fingerprint differs"):
        load_splits(path, folds=5, seed=0, given=False, fingerprint=splits.fingerprint)


def test_splits_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TametailError, match="cannot be written"):
        save_splits(make_splits(rare(8)), tmp_path / "absent" / "splits.csv")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["ham10000_224", "aptos2019_gf224_dev"])
@pytest.mark.slow
def test_real_tables_divide_evenly_by_group(name: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"no real images at {REAL / name}")
    table = read_images(REAL / name)
    splits = make_splits(table)
    assert_sound(table, splits)
    for label in table.class_names:
        sizes = np.bincount(splits.fold[table.frame["label"] == label] + 1)
        assert abs(sizes[0] / sizes.sum() - 0.2) < 0.01
        assert sizes[1:].max() - sizes[1:].min() <= 2
