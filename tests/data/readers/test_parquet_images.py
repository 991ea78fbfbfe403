from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tametail.core.errors import DataError, UsageError
from tametail.data import decoded_images, read_images
from tametail.data.reading import reading_facts


def encoded(grey: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((12, 12, 3), grey, np.uint8)).save(stream, kind)
    return stream.getvalue()


def write(
    path: Path,
    labels: list[Any],
    names: list[str] | None = None,
    *,
    plain: bool = False,
    label: str = "label",
    **others: list[Any],
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [encoded(10 * row, "JPEG" if row % 2 else "PNG") for row in range(len(labels))]
    cells = (
        images
        if plain
        else [{"bytes": image, "path": f"../../{row}.jpg"} for row, image in enumerate(images)]
    )
    table = pa.table(
        {
            "image": pa.array(cells),
            label: labels,
            **others,
            "patient": [f"p{row // 2}" for row in range(len(labels))],
        }
    )
    if names:
        features = {"image": {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def test_a_set_as_on_the_hub(tmp_path: Path) -> None:
    for split, numbers in (("train", [0, 1, 1, 0]), ("validation", [0, 1]), ("test", [1, 0, 1])):
        write(tmp_path / f"hub/data/{split}-00000-of-00001.parquet", numbers, ["benign", "malignant"])
    table = read_images(tmp_path / "hub")
    assert table.counts() == {"benign": 4, "malignant": 5}
    assert table.frame["split"].value_counts().to_dict() == {"train": 4, "test": 3, "val": 2}
    said = dict(reading_facts(table))
    assert said["Class"].startswith("column 'label' of 3 Parquet files: benign, malignant")
    assert "file names: test, train, validation" in said["Split"]
    train = table.frame[table.frame["split"] == "train"]
    pixels = decoded_images(table, 8).pixels
    for row, image in enumerate(train["image"]):
        at = table.images.tolist().index(image)
        assert abs(int(pixels[at].mean()) - 10 * row) <= 2  # the image stands with its label
        assert train["label"].iloc[row] == ["benign", "malignant", "malignant", "benign"][row]
    again = read_images(tmp_path / "hub")
    assert (again.root, again.fingerprint) == (table.root, table.fingerprint)


@pytest.mark.parametrize("plain", [True, False])
def test_one_file_with_names_as_labels_and_groups(tmp_path: Path, plain: bool) -> None:
    path = write(tmp_path / "cells.parquet", ["a", "b", "a", "b"], plain=plain)
    table = read_images(path, group_col="patient")
    assert table.counts() == {"a": 2, "b": 2}
    assert sorted(set(table.groups)) == ["p0", "p1"]
    assert (table.frame["split"] == "").all()
    assert all(image.resolve().is_relative_to(table.root.resolve()) for image in table.paths)
    assert {image.suffix for image in table.paths} == {".jpg", ".png"}


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 2], ["x", "y"])
    with pytest.raises(
        DataError, match=r"a number from 0 to 1 in every row of .*a.parquet, found '?2'? in row 2"
    ):
        read_images(path)
    with pytest.raises(
        DataError, match=r"a column 'dx' of labels .* found image, label, patient; name one with --label-col"
    ):
        read_images(path, label_col="dx")
    with pytest.raises(UsageError, match="--multi-label does not apply here"):
        read_images(path, multi_label=True)
    blank = pa.table({"image": [encoded(1), encoded(2)], "label": ["a", "b"], "patient": ["p", None]})
    pq.write_table(blank, path)
    with pytest.raises(DataError, match=r"1 of 2 rows of .* have no group in column 'patient'"):
        read_images(path, group_col="patient")
    pq.write_table(pa.table({"image": pa.array([encoded(1), b""]), "label": ["a", "b"]}), path)
    with pytest.raises(DataError, match=r"bytes of an image .* not so in row 2"):
        read_images(path)


def test_other_images_in_the_same_place_are_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["a", "b"])
    before = read_images(path).root
    write(path, ["a", "b", "a"])
    assert read_images(path).root != before


def test_the_only_class_label_and_the_other_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        [1, 0, 1],
        ["mel", "nv"],
        label="dx",
        age=[40, None, 60],
        site=["a", "b", None],
    )
    table = read_images(path)
    assert table.frame["label"].tolist() == ["nv", "mel", "nv"]
    assert table.frame["patient"].tolist() == ["p0", "p0", "p1"]
    assert table.frame["age"].tolist()[::2] == [40, 60]
    assert table.frame["site"].tolist()[:2] == ["a", "b"]
    write(path, [1, 0, 1], label="dx")
    with pytest.raises(
        DataError, match="expected a column 'label' of labels"
    ):  # numbers without names are no classes
        read_images(path)


@pytest.mark.parametrize(
    "layout", ["{}/0000.parquet", "default/{}/0000.parquet", "{}/{}-00000-of-00001.parquet"]
)
def test_files_in_folders_of_their_split(tmp_path: Path, layout: str) -> None:
    for split, labels in (("train", [0, 1, 1]), ("validation", [0, 1]), ("test", [1])):
        write(tmp_path / "hub" / layout.format(split, split), labels, ["a", "b"])
    table = read_images(tmp_path / "hub")
    assert table.frame.groupby(["split", "label"]).size().to_dict() == {
        ("test", "b"): 1, ("train", "a"): 1, ("train", "b"): 2, ("val", "a"): 1, ("val", "b"): 1,
    }  # fmt: skip


def test_two_sets_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    for name in ("small", "large"):
        for split in ("train", "test"):
            write(tmp_path / f"hub/{name}/{split}/0000.parquet", [0, 1], ["a", "b"])
    with pytest.raises(DataError, match="hub"):
        read_images(tmp_path / "hub")
    assert len(read_images(tmp_path / "hub/small").frame) == 4


def test_files_much_larger_than_their_bytes_are_refused(tmp_path: Path) -> None:
    zeros = pa.table(
        {"image": pa.array([bytes([at]) * (90 << 20) for at in range(3)]), "label": ["a", "b", "a"]}
    )
    pq.write_table(zeros, tmp_path / "bomb.parquet", compression="zstd")
    with pytest.raises(DataError, match=r"in a row group of .*bomb\.parquet, .* more than 50 times as many"):
        read_images(tmp_path / "bomb.parquet")
    rows = 2_000_001
    many = pa.table({"image": pa.nulls(rows, pa.binary()), "label": pa.nulls(rows, pa.string())})
    pq.write_table(many, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"at most 2,000,000 rows in .*rows\.parquet, found 2,000,001"):
        read_images(tmp_path / "rows.parquet")
