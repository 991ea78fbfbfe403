"""Files that a table names otherwise than they are stored."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from fixtures.table_layouts import draw, write_table
from tametail.core.errors import DataError
from tametail.data import ImageTable, read_images


def read(folder: Path, *entries: str, **options: object) -> ImageTable:
    rows = [[entry, "ab"[at % 2]] for at, entry in enumerate(entries)]
    return read_images(write_table(folder / "t.csv", ["image", "label"], rows), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "entry"),
    [
        ("x/y/a.png", "a.png"),
        ("x/y/a.png", "a"),
        ("x/y/a.png", "y/a.png"),
        ("x/y/a.png", "set/x/y/a.png"),
        ("x/y/a.png", "set\\x\\y\\a.png"),
        ("x/y/a.png", "X/Y/A.PNG"),
        ("x/y/a.png", "a.jpg"),
        ("x/y/a.png", "A.dcm"),
        (unicodedata.normalize("NFD", "x/Grün.png"), unicodedata.normalize("NFC", "Grün.png")),
    ],
)
def test_the_only_file_of_a_name_is_found_and_said(tmp_path: Path, stored: str, entry: str) -> None:
    draw(tmp_path / stored, tmp_path / "other.png")
    table = read(tmp_path, entry, "other.png")
    assert set(table.images) == {stored, "other.png"}
    assert table.frame.set_index("image")["label"][stored] == "a"
    assert table.reading is not None
    assert any("1 image found by name" in note for note in table.reading.notes)


@pytest.mark.parametrize("entry", ["p2/a.png", "p1/x/a.png", "../a.png", "ba.png", "a.csv"])
def test_another_file_is_never_taken(tmp_path: Path, entry: str) -> None:
    draw(tmp_path / "set/p1/a.png", tmp_path / "other.png")
    with pytest.raises(DataError, match="1 of 2 images"):
        read(tmp_path, entry, "other.png")


def test_several_files_of_a_name_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "x/a.png", tmp_path / "y/a.png", tmp_path / "b.png")
    with pytest.raises(DataError, match=r"1 of 2 images .* \(a.png may be x/a.png, y/a.png\).*--image-root"):
        read(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match="several files"):  # also where absent files may be skipped
        read(tmp_path, "a.png", "b.png", missing="skip")


def test_an_exact_name_comes_before_a_similar_one(tmp_path: Path) -> None:
    draw(tmp_path / "x/a.png", tmp_path / "x/a.jpg", tmp_path / "x/A.png", tmp_path / "b.png")
    assert set(read(tmp_path, "a.png", "b.png").images) == {"x/a.png", "b.png"}
    assert set(read(tmp_path, "a.jpg", "b.png").images) == {"x/a.jpg", "b.png"}


def test_no_image_gets_the_label_of_another(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", tmp_path / "b.png")
    # a.jpg is absent: a.png has a row of its own.
    with pytest.raises(DataError, match=r"1 of 3 images .*a.jpg"):
        read(tmp_path, "a.png", "b.png", "a.jpg")
    table = read(tmp_path, "a.png", "b.png", "a.jpg", missing="skip")
    assert table.counts() == {"a": 1, "b": 1}
    # Two entries that fit one file are two images, one of which is absent, and nobody knows which.
    with pytest.raises(DataError, match=r"2 of 3 images .*several files"):
        read(tmp_path, "train/a.png", "test/a.png", "b.png")


def test_files_of_one_split_are_not_found_in_another(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_table(tmp_path / split / "labels.csv", ["image", "label"], [["1.png", "a"], ["2.png", "b"]])
    draw(tmp_path / "train/x/1.png", tmp_path / "train/x/2.png", tmp_path / "test/x/1.png")
    with pytest.raises(DataError, match=r"1 of 2 images .*2.png"):
        read_images(tmp_path)
    draw(tmp_path / "test/y/2.png")
    assert len(read_images(tmp_path)) == 4


def test_a_link_that_leads_out_of_the_root_is_not_found(tmp_path: Path) -> None:
    draw(tmp_path / "out/a.png", tmp_path / "in/b.png")
    (tmp_path / "in/x").mkdir()
    (tmp_path / "in/x/a.png").symlink_to(tmp_path / "out/a.png")
    with pytest.raises(DataError, match="1 of 2 images"):
        read(tmp_path / "in", "a.png", "b.png")
