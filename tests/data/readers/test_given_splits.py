"""Splits and folds that a set was published with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.table_layouts import draw, write_table
from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable, make_splits, read_images

NAMES = [f"g{at}.png" for at in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw(*(tmp_path / name for name in NAMES))
    return tmp_path


def read(folder: Path, column: str, cells: list[object], **options: object) -> ImageTable:
    rows = [[name, "ab"[at % 2], cell] for at, (name, cell) in enumerate(zip(NAMES, cells, strict=True))]
    return read_images(write_table(folder / "t.csv", ["image", "label", column], rows), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "values", "one", "zero"),
    [
        ("is_test", None, "test", "train"),
        ("Train", None, "train", "test"),
        ("is_val", None, "val", "train"),
        ("in_training_set", None, "train", "test"),
        ("part", "0=train,1=test", "test", "train"),
        ("part", {"1": "training", "0": "test"}, "train", "test"),
        ("is_test", {"1": "train", "0": "test"}, "train", "test"),
    ],
)
def test_0_and_1_as_a_split(folder: Path, column: str, values: object, one: str, zero: str) -> None:
    table = read(folder, column, [int(at < 4) for at in range(12)], split_col=column, split_values=values)
    expected = {name: one if at < 4 else zero for at, name in enumerate(NAMES)}
    assert dict(zip(table.images, table.frame["split"], strict=True)) == expected
    assert table.reading is not None
    assert f"1 = {one}" in table.reading.split


@pytest.mark.parametrize(
    "column",
    ["not_in_training", "device", "evaluation", "interval", "valid", "contest", "untested", "train_test"],
)
def test_a_name_that_holds_a_split_word_says_nothing(folder: Path, column: str) -> None:
    with pytest.raises(DataError, match="say what they mean"):
        read(folder, column, [at % 2 for at in range(12)], split_col=column)


def test_contradicting_options_are_refused(folder: Path) -> None:
    cells: list[object] = [at // 6 for at in range(12)]
    for values in ("0=train,0=test,1=test", ["1=test", "0=train", "0=train"]):
        with pytest.raises(UsageError, match="each value once in --split-values, got several splits for 0"):
            read(folder, "part", cells, split_col="part", split_values=values)
    (folder / "l.txt").write_text(NAMES[0])
    with pytest.raises(UsageError, match="each file once in --split-files"):
        read(folder, "part", cells, split_files=[f"train={folder}/l.txt", f"test={folder}/l.txt"])
    with pytest.raises(UsageError, match="one source of the split, got --split-col and --split-files"):
        read(folder, "split", ["train"] * 12, split_col="split", split_files=f"test={folder}/l.txt")


def test_0_and_1_without_a_meaning_are_refused(folder: Path) -> None:
    cells: list[object] = [at % 2 for at in range(12)]
    with pytest.raises(
        DataError, match="found 0, 1; say what they mean, such as --split-values 0=train,1=test"
    ):
        read(folder, "part", cells, split_col="part")
    with pytest.raises(UsageError, match="pairs with train, val or test"):
        read(folder, "part", cells, split_col="part", split_values="0=learn,1=test")


def write_lists(folder: Path, train: list[str], test: list[str]) -> dict[str, Path]:
    for name, lines in (("train", train), ("test", test)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return {"train": folder / "train.txt", "test": folder / "test.txt"}


@pytest.mark.parametrize("form", ["{}", "images/{}", "{} 1 0", "{},x"])
def test_lists_of_images(folder: Path, form: str) -> None:
    lists = write_lists(
        folder, [form.format(name) for name in NAMES[:9]], ["filename", *map(form.format, NAMES[9:])]
    )
    table = read(folder, "age", [1] * 12, split_files=lists)
    assert table.frame["split"].tolist().count("test") == 3
    assert set(table.images[table.frame["split"].to_numpy() == "test"]) == set(NAMES[9:])
    assert table.reading is not None
    assert table.reading.split == "lists train.txt (train), test.txt (test)"


def test_a_header_is_said_and_a_misspelt_image_is_none(folder: Path) -> None:
    path = folder / "test.txt"

    def split_by(*lines: str, **options: object) -> ImageTable:
        path.write_text("\n".join(lines))
        return read(folder, "age", [1] * 12, split_files={"test": path}, **options)

    table = split_by("image_id,fold", *NAMES[:3])
    assert table.reading is not None
    assert table.reading.notes[-1] == "the first line of test.txt, 'image_id,fold', is taken for its header"
    assert split_by(*NAMES[:3]).reading.notes == table.reading.notes[:-1]  # type: ignore[union-attr]
    for first in ("absent.png", "g99", "other/g"):
        with pytest.raises(DataError, match=r"1 of 3 lines .* name no image"):
            split_by(first, *NAMES[:2])
    for only in ("absent.png", "filename"):
        for missing in ("error", "skip"):
            with pytest.raises(DataError, match=r"1 of 1 lines .* name no image"):
                split_by(only, missing=missing)
    with pytest.raises(DataError, match=r"1 of 3 lines .* name no image .*absent"):
        split_by("filename", "absent.png", *NAMES[:2])


def test_lists_for_class_folders(tmp_path: Path) -> None:
    draw(*(tmp_path / "set" / "ab"[at % 2] / name for at, name in enumerate(NAMES)))
    (tmp_path / "test.txt").write_text("\n".join(NAMES[:4]))
    table = read_images(tmp_path / "set", split_files=f"test={tmp_path / 'test.txt'}")
    assert table.frame["split"].tolist().count("test") == 4
    assert table.frame["split"].tolist().count("train") == 8


def test_what_lists_and_images_do_not_share_is_refused_or_counted(folder: Path) -> None:
    cells: list[object] = [1] * 12
    lists = write_lists(folder, NAMES[:8], [*NAMES[9:], "absent.png"])
    with pytest.raises(DataError, match=r"1 of 4 lines of .*test.txt name no image .*absent.png"):
        read(folder, "age", cells, split_files=lists)
    table = read(folder, "age", cells, split_files=lists, missing="skip")
    assert len(table) == 11
    assert table.reading is not None
    assert {"1 line of test.txt without an image", "1 image in no list"} <= set(table.reading.left_out)
    lists = write_lists(folder, NAMES[:8], NAMES[9:])
    with pytest.raises(DataError, match=r"1 of 12 images .* in no list .*g8.png"):
        read(folder, "age", cells, split_files=lists)
    lists = write_lists(folder, NAMES[:8], NAMES[7:])
    with pytest.raises(DataError, match=r"1 images are in several lists .*g7.png"):
        read(folder, "age", cells, split_files=lists)
    with pytest.raises(DataError, match=r"split leaks.*leave the given split out"):
        read(folder, "group", [1] * 12, split_files=write_lists(folder, NAMES[:8], NAMES[8:]))


def test_given_folds_are_used_as_they_are(folder: Path) -> None:
    cells: list[object] = [[10, 2, 3][at // 2 % 3] for at in range(12)]
    table = read(folder, "cv", cells, fold_col="cv", split_col=None)
    expected = {name: {2: 0, 3: 1, 10: 2}[int(str(cell))] for name, cell in zip(NAMES, cells, strict=True)}
    splits = make_splits(table, folds=3, repeats=2)
    for image, part, fold in zip(splits.image, splits.part, splits.fold, strict=True):
        assert fold == (expected[image] if part == "train" else -1)
    np.testing.assert_array_equal(splits.fold_in(1), splits.fold)
    with pytest.raises(UsageError, match=r"gives 3 folds .*--folds 3"):
        make_splits(table, folds=2)
    assert table.fingerprint != read(folder, "cv", cells).fingerprint


def test_given_folds_with_a_given_test_set(folder: Path) -> None:
    rows = [
        [name, "ab"[at % 2], at // 2 % 2 if at < 8 else "", ["train", "test"][at >= 8]]
        for at, name in enumerate(NAMES)
    ]
    path = write_table(folder / "t.csv", ["image", "label", "cv", "split"], rows)
    table = read_images(path, fold_col="cv")
    splits = make_splits(table, folds=2)
    by_image = dict(zip(splits.image, splits.fold, strict=True))
    assert [by_image[name] for name in NAMES] == [0, 0, 1, 1, 0, 0, 1, 1, -1, -1, -1, -1]
    write_table(folder / "t.csv", ["image", "label", "cv", "split"], [[*row[:3], ""] for row in rows])
    with pytest.raises(DataError, match=r"4 of 12 images have no fold .*g10\.png"):
        make_splits(read_images(path, fold_col="cv"), folds=2)
    assert "2 given folds (0: 4, 1: 4; 4 rows without one)" in read_images(path, fold_col="cv").reading.notes  # type: ignore[union-attr]
    (folder / "test.txt").write_text("\n".join(NAMES[8:]))
    listed = read_images(path, fold_col="cv", split_files={"test": folder / "test.txt"})
    assert make_splits(listed, folds=2).fold.tolist() == splits.fold.tolist()


@pytest.mark.parametrize("blank", [False, True])
def test_given_folds_with_a_table_of_test_images(folder: Path, blank: bool) -> None:
    rows = [[name, "ab"[at % 2], at // 2 % 2] for at, name in enumerate(NAMES)]
    write_table(folder / "tr.csv", ["image", "label", "cv"], rows[:8])
    header = ["image", "label", "cv"] if blank else ["image", "label"]
    write_table(folder / "te.csv", header, [[*row[:2], ""][: len(header)] for row in rows[8:]])
    table = read_images(f"train={folder}/tr.csv,test={folder}/te.csv", fold_col="cv")
    splits = make_splits(table, folds=2)
    by_image = dict(zip(splits.image, splits.fold, strict=True))
    assert [by_image[name] for name in NAMES] == [0, 0, 1, 1, 0, 0, 1, 1, -1, -1, -1, -1]
    with pytest.raises(DataError, match=r"expected a column '\w+' for the fold .*; correct --fold-col"):
        read_images(f"train={folder}/te.csv,test={folder}/tr.csv", fold_col="cv" if not blank else "nope")


def test_folds_that_leak_are_refused(folder: Path) -> None:
    rows = [[name, "ab"[at % 2], f"p{at // 2}" if at else "p1", at % 3] for at, name in enumerate(NAMES)]
    path = write_table(folder / "t.csv", ["image", "label", "group", "cv"], rows)
    with pytest.raises(DataError, match="the given folds leak"):
        make_splits(read_images(path, fold_col="cv"), folds=3, test_fraction=0.1)
    rows = [[name, "ab"[at // 6], "", at // 3] for at, name in enumerate(NAMES)]
    rows = [[*row[:2], f"q{at}", 0 if at < 6 else 1 + at % 2] for at, row in enumerate(rows)]
    write_table(folder / "t.csv", ["image", "label", "group", "cv"], rows)
    with pytest.raises(DataError, match="expected every class in at least 2 of the given folds, found a"):
        make_splits(read_images(path, fold_col="cv"), folds=3)


def test_tables_by_split(tmp_path: Path) -> None:
    for split, names in (("train", NAMES[:8]), ("test", NAMES[8:])):
        draw(*(tmp_path / split / name for name in names))
        rows = [[name, "ab"[at % 2]] for at, name in enumerate(names)]
        write_table(tmp_path / split / "list.csv", ["image", "label"], rows)
    source = f"train={tmp_path}/train/list.csv,test={tmp_path}/test/list.csv"
    table = read_images(source)
    assert table.root == tmp_path
    assert dict(zip(table.images, table.frame["split"], strict=True)) == {
        f"{split}/{name}": split
        for split, names in (("train", NAMES[:8]), ("test", NAMES[8:]))
        for name in names
    }
    with pytest.raises(DataError, match=r"expected a table at .*absent.csv"):
        read_images(f"train={tmp_path}/train/list.csv,test={tmp_path}/absent.csv")
    with pytest.raises(UsageError, match="different tables, each with its split"):
        read_images(f"train={tmp_path}/train/list.csv,{tmp_path}/test/list.csv")
    with pytest.raises(DataError, match="listed in two splits"):
        read_images(f"train={tmp_path}/train/list.csv,test={tmp_path}/train/../train/list.csv")
