"""Labels written as columns of 0 and 1, or several in one cell."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from tametail.core.errors import DataError
from tametail.data import ImageTable, read_images


def read(folder: Path, text: str, name: str = "t.csv", **options: object) -> ImageTable:
    for image in "abcd":
        (folder / image).with_suffix(".png").touch()
    (folder / name).write_text(text)
    return read_images(folder / name, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("zero", "one"), [("0", "1"), ("0.0", "1.0"), ("False", "True"), (" 0", "1 ")])
def test_zeros_and_ones_in_their_spellings(tmp_path: Path, zero: str, one: str) -> None:
    table = read(tmp_path, f"image,MEL,NV\na,{one},{zero}\nb,{zero},{one}\n", label_cols="MEL,NV")
    assert table.frame["label"].tolist() == ["MEL", "NV"]
    assert not table.multi_label


def test_columns_are_found_in_any_case_and_an_own_label_column_is_carried(tmp_path: Path) -> None:
    table = read(tmp_path, "image,Mel,NV,label\na,1,0,p\nb,0,1,q\n", label_cols=("mel", "nv"))
    assert table.class_names == ("Mel", "NV")
    assert table.frame["csv_label"].tolist() == ["p", "q"]


def test_a_class_without_an_image_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        table = read(tmp_path, "image,A,B,UNK\na,1,0,0\nb,0,1,0\n", label_cols="A,B,UNK")
    assert table.class_names == ("A", "B")
    assert "no image has the class UNK" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,A,B\na,1,0\nb,0,0\nc,1,1\n",
            r"exactly one 1 in A, B .* 1 rows have none and 1 have several \(rows 2, 3 below the header\).*--multi-label",
        ),
        ("image,A,B\na,1,0\nb,0,2\n", r"0 or 1 in every row of column 'B' .* found '2' in row 2 below"),
        ("image,A,B\na,1,0\nb,,1\n", "1 cells in 1 rows are blank .*A in row 2 below.*--blank"),
        (
            "image,A,C\na,1,0\nb,0,1\n",
            "column 'B' for the label .* found image, A, C; correct --label-cols",
        ),
    ],
)
def test_faults_of_one_hot_columns_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, label_cols="A,B")


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ("image,sex,age,MEL,NV\na,f,3,1.0,0.0\nb,m,4,0.0,1.0\n", "MEL,NV"),
        ("image,group,MEL,NV\na,1,1,0\nb,0,0,1\n", "MEL,NV"),  # a group of 0 and 1 is no class
        ("image,MEL,NV\na,1,1\nb,0,1\n", None),
        ("image,MEL\na,1\nb,1\n", None),
    ],
)
def test_columns_that_look_like_classes_are_proposed(tmp_path: Path, text: str, proposed: str | None) -> None:
    with pytest.raises(DataError, match="expected a column 'label'") as caught:
        read(tmp_path, text)
    assert ("--label-cols" in str(caught.value)) == (proposed is not None)
    assert str(caught.value).endswith(proposed or "name one with --label-col")


MULTI = {"a.png": "edema|mass", "b.png": "", "c.png": "mass", "d.png": "nodule"}


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("t.csv", "image,label\na,mass|edema\nb,\nc,mass\nd,nodule\n", {}),
        ("t.csv", "image,label\na,edema | mass|mass\nb,nan\nc,mass|\nd,nodule\n", {}),
        ("t.csv", "image,label\na,mass;edema\nb,\nc,mass\nd,nodule\n", {}),
        ("t.csv", 'image,label\na,"mass, edema"\nb,\nc,mass\nd,nodule\n', {}),
        ("t.tsv", "image\tfindings\na\tmass|edema\nb\t\nc\tmass\nd\tnodule\n", {"label_col": "findings"}),
        (
            "t.csv",
            "image,nodule,mass,edema\na,0,1,1\nb,0,0,0\nc,0,1,0\nd,1,0,0\n",
            {"label_cols": "edema,mass,nodule"},
        ),
        (
            "t.jsonl",
            '{"image": "a", "label": ["mass", "edema"]}\n{"image": "b", "label": []}\n'
            '{"image": "c", "label": "mass"}\n{"image": "d", "label": ["nodule", null]}\n',
            {},
        ),
    ],
)
def test_every_way_to_write_several_classes(tmp_path: Path, name: str, text: str, options: dict) -> None:
    table = read(tmp_path, text, name, multi_label=True, **options)
    assert table.multi_label
    assert table.class_names == ("edema", "mass", "nodule")
    assert dict(zip(table.images, table.frame["label"], strict=True)) == MULTI
    assert table.counts() == {"edema": 1, "mass": 2, "nodule": 1}


def test_lists_in_parquet(tmp_path: Path) -> None:
    read(tmp_path, "image,label\na,x\nb,y\n")
    frame = pd.DataFrame({"image": ["a", "b", "c"], "label": [["y", "x"], [], ["x"]]})
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_images(tmp_path / "t.parquet", multi_label=True)
    assert table.frame["label"].tolist() == ["x|y", "", "x"]
    with pytest.raises(DataError, match=r"text or numbers in column 'label'.*--multi-label"):
        read_images(tmp_path / "t.parquet")


def test_without_the_option_a_bar_is_part_of_the_name(tmp_path: Path) -> None:
    table = read(tmp_path, "image,label\na,x|y\nb,y\n")
    assert (table.class_names, table.multi_label) == (("x|y", "y"), False)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "image,label\na,\nb,\n", "every cell is empty"),
        ("t.csv", "image,label\na,x\nb,\n", "at least two classes, found only 'x'"),
        ("t.jsonl", '{"image": "a", "label": ["x|y", "z"]}\n', r"without '\|' .* found x\|y; rename"),
    ],
)
def test_faults_of_multi_labels_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, name, multi_label=True)


def test_one_hot_columns_with_a_bar_cannot_be_joined(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column names without"):
        read(tmp_path, "image,a|b,c\na,1,0\nb,0,1\n", label_cols="a|b,c", multi_label=True)


def test_unknown_labels_of_a_class_that_only_another_table_has_stay_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for image in "abcdefgh":
        (tmp_path / image).with_suffix(".png").touch()
    (tmp_path / "tr.csv").write_text("image,X,Y,Z\na,1,0,0\nb,0,1,0\nc,-1,1,0\nd,1,1,0\n")
    (tmp_path / "te.csv").write_text("image,X,Y,Z\ne,-1,1,0\nf,0,0,-1\ng,0,-1,0\n")
    source = f"train={tmp_path}/tr.csv,test={tmp_path}/te.csv"
    with caplog.at_level(logging.WARNING):
        table = read_images(source, multi_label=True, label_cols="X,Y,Z", uncertain="ignore")
    assert table.class_names == ("X", "Y")
    unknown = {image[0]: row.tolist() for image, row in zip(table.images, table.unknown, strict=True)}
    assert unknown == {
        **{image: [False, False] for image in "abdf"},
        **{image: [True, False] for image in "ce"},
        "g": [False, True],
    }
    assert caplog.text.count("no image has the class") == 1
    assert "no image has the class Z" in caplog.text
    (tmp_path / "te.csv").write_text("image,X,Y,Z\ne,-1,1,0\nf,-1,-1,0\n")
    with pytest.raises(DataError, match=r"every label of 1 image .* is unknown \(f\.png\)"):
        read_images(source, multi_label=True, label_cols="X,Y,Z", uncertain="ignore")
    table = read_images(source, multi_label=True, label_cols="X,Y,Z", uncertain="ignore", missing="skip")
    assert len(table) == 5
    assert table.reading is not None
    assert any("without a known label" in text for text in table.reading.left_out)


def test_unknown_labels_of_a_class_that_vanishes_with_its_images(tmp_path: Path) -> None:
    for image in "abcd":
        (tmp_path / image).with_suffix(".png").touch()
    (tmp_path / "t.csv").write_text("image,X,Y,Z\na,-1,1,0\nb,0,0,1\nc,-1,1,1\nd,1,0,0\n")
    for name, lines in {"train": "a\nb", "test": "c"}.items():
        (tmp_path / f"{name}.txt").write_text(lines)
    table = read_images(
        tmp_path / "t.csv",
        multi_label=True,
        label_cols="X,Y,Z",
        uncertain="ignore",
        missing="skip",
        split_files={name: tmp_path / f"{name}.txt" for name in ("train", "test")},
    )
    assert table.class_names == ("Y", "Z")
    assert not table.unknown.any()
