from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from tametail.core.errors import DataError
from tametail.data import read_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.png", "c.TIF", "ä.png"):
        (tmp_path / "images" / name).touch()
    return tmp_path


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_named_columns_root_and_carried_columns(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("csv")
    text = "isic_id,dx,lesion,age,label,partition\nb,nv,L2,61.5,q,Test\na,mel,L1,,r,training\nc,nv,L3,40,s,\n"
    table = read_images(
        write(elsewhere, text),
        image_col="isic_id",
        label_col="dx",
        group_col="lesion",
        split_col="partition",
        image_root=folder / "images",
    )
    assert list(table.frame) == ["image", "label", "group", "split", "age", "csv_label"]
    assert table.images.tolist() == ["a.jpg", "b.png", "c.TIF"]
    assert table.frame["label"].tolist() == ["mel", "nv", "nv"]
    assert table.groups.tolist() == ["L1", "L2", "L3"]
    assert table.frame["split"].tolist() == ["train", "test", ""]
    assert pd.isna(table.frame["age"][0])
    assert table.frame["age"][1] == 61.5
    assert table.frame["csv_label"].tolist() == ["r", "q", "s"]
    assert table.name == "table"


@pytest.mark.parametrize("text", ["Image,LABEL\n{}", " image , label \n{}", "image,label,\n{}"])
def test_column_names_in_any_case_and_blanks_around_them(folder: Path, text: str) -> None:
    rows = "images/a.jpg, x \nimages/b.png,y\n"
    if text.endswith(",\n{}"):
        rows = rows.replace("\n", ",\n")
    table = read_images(write(folder, text.format(rows)))
    assert table.frame["label"].tolist() == ["x", "y"]
    assert list(table.frame) == ["image", "label", "group", "split"]


def test_the_exact_column_comes_before_one_in_another_case(folder: Path) -> None:
    table = read_images(write(folder, "image,Label,label\nimages/a.jpg,p,x\nimages/b.png,q,y\n"))
    assert table.class_names == ("x", "y")
    assert table.frame["Label"].tolist() == ["p", "q"]


def test_labels_and_groups_stay_text(folder: Path) -> None:
    text = "image,label,group\nimages/a.jpg,01,007\nimages/b.png,1,7\nimages/c.TIF,None,NA\n"
    table = read_images(write(folder, text))
    assert table.class_names == ("01", "1", "None")
    assert table.groups.tolist() == ["007", "7", "NA"]


def test_labels_that_are_all_numbers_stay_text(folder: Path) -> None:
    table = read_images(write(folder, "image,label\nimages/a.jpg,01\nimages/b.png,1\nimages/c.TIF,1.0\n"))
    assert table.class_names == ("01", "1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_write(folder: Path, encoding: str, separator: str, newline: str) -> None:
    rows = [
        ["image", "label"],
        ["images/ä.png", "Nävus"],
        ["images/a.jpg", "mel"],
        [],
        ["images/b.png", "mel"],
    ]
    text = newline.join(separator.join(row) for row in rows) + newline
    assert read_images(write(folder, text.encode(encoding))).class_names == ("Nävus", "mel")


def test_quoted_fields_hold_commas_quotes_and_line_breaks(folder: Path) -> None:
    text = 'image,label,note\n"images/a.jpg","nevus, ""blue""","two\nlines"\nimages/b.png,mel,"a, b"\n'
    table = read_images(write(folder, text))
    assert table.frame["label"].tolist() == ['nevus, "blue"', "mel"]
    assert table.frame["note"].tolist() == ["two\nlines", "a, b"]


def test_latin_1_is_read_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(folder, "image,label\nimages/ä.png,x\nimages/a.jpg,y\n".encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        assert read_images(path).images.tolist() == ["images/a.jpg", "images/ä.png"]
    assert "is not UTF-8; it was read as Latin-1" in caplog.text


def test_spellings_of_one_image_are_one_image(folder: Path) -> None:
    text = f"image,label\n./images/a.jpg,x\nimages\\b.png,y\n{folder}/images/c.TIF,y\nimages/../images/a,x\n"
    assert read_images(write(folder, text)).images.tolist() == [
        "images/a.jpg",
        "images/b.png",
        "images/c.TIF",
    ]


def test_identical_rows_count_once(folder: Path) -> None:
    text = "image,label,age\nimages/a.jpg,x,\nimages/b.png,y,3\nimages/a.jpg,x,\n"
    assert len(read_images(write(folder, text))) == 2


def test_the_order_of_the_rows_does_not_matter(folder: Path) -> None:
    rows = ["images/a.jpg,x,p", "images/b.png,y,q", "images/c.TIF,x,q"]
    first = read_images(write(folder, "\n".join(["image,label,group", *rows])))
    again = read_images(write(folder, "\n".join(["image,label,group", *rows[::-1]])))
    assert first.fingerprint == again.fingerprint


GOOD = "images/a.jpg,x\nimages/b.png,y\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("image,label\n", "a header only"),
        ("file,diagnosis\n" + GOOD, r"column 'image' for the image .* found file, diagnosis; .*--image-col"),
        ("image,dx\n" + GOOD, r"column 'label' for the label .* found image, dx; .*--label-col"),
        ("image,Label,LABEL\nimages/a.jpg,x,y\n", "several columns for label: Label, LABEL"),
        ("image,label,label \nimages/a.jpg,x,y\n", "its own name"),
        (
            "image,label\nimages/a.jpg,x\nimages/b.png,\nimages/c.TIF,nan\n",
            r"2 of 3 rows .* no label .*\(rows 2, 3 ",
        ),
        ("image,label\n,x\n" + GOOD, r"1 of 3 rows .* no image in column 'image' \(rows 1 "),
        ("image,label,group\nimages/a.jpg,x,p\nimages/b.png,y,\n", r"1 of 2 rows .* no group"),
        (
            "image,label\n" + GOOD + "".join(f"images/m{n}.png,x\n" for n in range(4)),
            r"4 of 6 images .* are not in .*\(images/m0.png, images/m1.png, images/m2.png, ...\); .*--image-root",
        ),
        ("image,label\n" + GOOD + "../outside.png,x\n", r"1 of 3 images .* lie outside .*--image-root"),
        ("image,label\n" + GOOD + "images,x\n", r"1 of 3 images .* are not in"),
        (
            "image,label\n" + GOOD + "images/a.jpg,y\n",
            r"1 images are listed .*\(images/a.jpg; the first differs in label\)",
        ),
        ("image,label,site\nimages/a.jpg,x,A\nimages/b.png,y,B\nimages/a.jpg,x,B\n", "differs in site"),
        ("image,label\nimages/a.jpg,x\nimages/b.png,x\n", "at least two classes, found only 'x'"),
        (
            "image,label,split\nimages/a.jpg,x,train\nimages/b.png,y,dev\n",
            "expected train, val, test .* found dev",
        ),
        ("image,label\nimages/a.jpg,x,1\nimages/b.png,y,2\n", "more fields than its header"),
        ("image,label\nimages/a.jpg,x\nimages/b.png,y,2\n", "cannot be read as CSV"),
        ('image,label\n"images/a.jpg,x\n', "cannot be read as CSV"),
        (b"PK\x03\x04\0\0\0\0", "is not text"),
    ],
)
def test_planted_faults_are_named(folder: Path, text: str | bytes, message: str) -> None:
    (folder.parent / "outside.png").touch()
    with pytest.raises(DataError, match=message):
        read_images(write(folder, text))


def test_a_named_column_must_be_there(folder: Path) -> None:
    with pytest.raises(DataError, match="column 'patient' for the group"):
        read_images(write(folder, "image,label\n" + GOOD), group_col="patient")


def test_an_absent_image_root_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere \(--image-root\), but there is none"):
        read_images(write(folder, "image,label\n" + GOOD), image_root=folder / "nowhere")
