"""The same table from every kind of file, and what each kind can have wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable, read_images

IMAGES = {"x/a.png": "x", "x/b.png": "x", "y/c.png": "y", "z/d.png": "z"}
FRAME = pd.DataFrame(
    {
        "image": list(IMAGES),
        "label": list(IMAGES.values()),
        "age": [61.5, None, 40.0, 12.0],
        "site": ["Ulm", "Ulm", "", "Köln"],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in IMAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def as_csv(path: Path) -> Path:
    FRAME.to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def as_tsv(path: Path) -> Path:
    FRAME.to_csv(path.with_suffix(".tsv"), index=False, sep="\t")
    return path.with_suffix(".tsv")


def as_parquet(path: Path) -> Path:
    FRAME.set_index("image", drop=False).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_jsonl(path: Path) -> Path:
    FRAME.to_json(path.with_suffix(".jsonl"), orient="records", lines=True)
    return path.with_suffix(".jsonl")


def as_one_hot(path: Path) -> Path:
    hot = pd.get_dummies(FRAME["label"]).astype(float)
    pd.concat([FRAME.drop(columns="label"), hot], axis=1).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


WRITERS = [as_csv, as_tsv, as_parquet, as_jsonl]


@pytest.mark.parametrize("write", WRITERS)
def test_every_kind_gives_the_table_of_the_class_folders(folder: Path, write: Callable[[Path], Path]) -> None:
    expected = read_images(folder)
    for name in ("t", "labels"):  # as a file; as the table of the folder
        path = write(folder / name)
        table = read_images(path if name == "t" else folder)
        assert table.fingerprint == expected.fingerprint
        assert table.root == folder
        assert table.frame["age"].tolist()[2:] == [40.0, 12.0]
        assert pd.isna(table.frame["age"][1])
        assert table.frame["site"].tolist()[-1] == "Köln"


@pytest.mark.parametrize("columns", ["x,y,z", " z, x,y", ["y", "z", "x"]])
def test_one_column_per_class_gives_the_table_of_the_class_folders(folder: Path, columns: object) -> None:
    table = read_images(as_one_hot(folder / "t"), label_cols=columns)  # type: ignore[arg-type]
    assert table.fingerprint == read_images(folder).fingerprint
    assert list(table.frame) == ["image", "label", "group", "split", "age", "site"]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_hugging_face_image_folder(folder: Path, name: str) -> None:
    rows = FRAME.rename(columns={"image": "file_name"})
    path = folder / name
    if name.endswith("csv"):
        rows.to_csv(path, index=False)
    elif name.endswith("jsonl"):
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_parquet(path)
    assert read_images(folder).fingerprint == expected_fingerprint(folder)


def expected_fingerprint(folder: Path) -> str:
    frame = pd.DataFrame(
        {"image": list(IMAGES), "label": list(IMAGES.values()), "group": list(IMAGES), "split": ""},
        dtype=object,
    )
    return ImageTable(frame, folder, ("x", "y", "z"), "t").fingerprint


def test_a_hugging_face_folder_per_split(tmp_path: Path) -> None:
    for split, name, label in [
        ("train", "a", "x"),
        ("train", "b", "y"),
        ("validation", "c", "x"),
        ("test", "a", "y"),
    ]:
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / split / f"{name}.png").touch()
        with open(tmp_path / split / "metadata.jsonl", "a") as file:
            file.write(json.dumps({"file_name": f"{name}.png", "label": label}) + "\n")
    table = read_images(tmp_path)
    assert table.images.tolist() == ["test/a.png", "train/a.png", "train/b.png", "validation/c.png"]
    assert table.frame["split"].tolist() == ["test", "train", "train", "val"]
    assert table.frame["label"].tolist() == ["y", "x", "y", "x"]

    (tmp_path / "test" / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "label": "y", "split": "train"}\n'
    )
    with pytest.raises(DataError, match="is of the split 'test', but its split column says train"):
        read_images(tmp_path)
    (tmp_path / "test" / "metadata.jsonl").write_text('{"file_name": "../train/a.png", "label": "x"}\n')
    with pytest.raises(DataError, match=r"1 images of .* are listed in two splits \(train/a.png\)"):
        read_images(tmp_path)
    (tmp_path / "test" / "metadata.jsonl").unlink()
    with pytest.raises(DataError, match="but test has none"):
        read_images(tmp_path)


def test_metadata_of_something_else_does_not_hide_the_class_folders(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read_images(folder).fingerprint
    (folder / "metadata.csv").write_text("patient,age,photo,label\np1,40,x/a.png,x\np2,41,y/c.png,y\n")
    with caplog.at_level("WARNING"):
        assert read_images(folder).fingerprint == expected
    assert "has no column file_name or image" in caplog.text
    assert len(read_images(folder, image_col="photo")) == 2


def test_two_tables_of_one_folder_are_refused(folder: Path) -> None:
    as_csv(folder / "labels")
    as_jsonl(folder / "labels")
    with pytest.raises(
        DataError, match=r"expected one table .* found labels.csv, labels.jsonl; give the path"
    ):
        read_images(folder)
    (folder / "labels.jsonl").unlink()
    as_csv(folder / "metadata")
    assert len(read_images(folder)) == 4  # labels.csv comes before what Hugging Face writes


def test_numbers_in_jsonl_and_parquet_are_text(folder: Path) -> None:
    rows = ['{"image": "x/a.png", "label": 1}', '{"image": "x/b.png", "label": "1.0"}']
    rows += ['{"image": "y/c.png", "label": "01"}', '{"image": "z/d.png", "label": 1, "boxes": [[1, 2]]}']
    (folder / "t.jsonl").write_text("\n\n".join(rows))
    table = read_images(folder / "t.jsonl")
    assert table.class_names == ("01", "1")
    assert table.frame["boxes"].tolist()[-1] == "[[1, 2]]"
    codes = pd.DataFrame(
        {"image": list(IMAGES), "label": pd.array([1, 2, 10, 2], dtype="Int64"), "g": [None] * 4}
    )
    codes.to_parquet(folder / "t.parquet")
    assert read_images(folder / "t.parquet").class_names == ("1", "10", "2")
    with pytest.raises(DataError, match=r"4 of 4 rows .* have no group in column 'g' \(rows 1, 2, 3, ...\)"):
        read_images(folder / "t.parquet", group_col="g")


GOOD = '{"image": "x/a.png", "label": "x"}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one JSON object per line .* it is empty"),
        (
            GOOD + "\n" + '{"image": "y/c.png", label}\n',
            r"line 3 of .* is not JSON \(.*fix or remove the line",
        ),
        (GOOD + "[1, 2]\n", r"found \[1, 2\] in line 2"),
        (GOOD + '{"image": "a", "image": "b"}\n', "line 2 .*a name occurs twice"),
        (GOOD + "[" * 100_000, "line 2 of .* is not JSON"),
        (GOOD + '{"image": "y/c.png", "label": ' + "9" * 5000 + "}", "line 2 of .* is not JSON"),
        (GOOD + '{"image": "y/c.png", "label": ["y"]}', r"found \['y'\] in row 2; .*--multi-label"),
        (GOOD + '{"image": {"bytes": "", "path": "y"}, "label": "y"}', r"text or numbers in column 'image'"),
        (GOOD + '{"image": "y/c.png"}', r"1 of 2 rows .* no label in column 'label' \(rows 2\)"),
        (
            GOOD + '{"image": "y/c\\u0000.png", "label": "y"}',
            r"1 of 2 images .* are not in .*\('y/c\\x00.png'\)",
        ),
        (GOOD + '{"image": "a\\u0000/c.png", "label": "y"}', "1 of 2 images .* are not in"),
        (GOOD + '{"image": "y/c.png", "label": "\\ud800"}', "line 2 of .* is not JSON .*surrogates"),
        (GOOD + '{"image": "y/c.png", "label": "y", " label": 1}', "its own name"),
        ("PK\0\0", "expected a JSON Lines file .* not text"),
    ],
)
def test_faults_of_json_lines_are_named(folder: Path, text: str, message: str) -> None:
    (folder / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_images(folder / "t.jsonl")


def test_faults_of_parquet_are_named(folder: Path) -> None:
    path = folder / "t.parquet"
    whole = as_parquet(path).read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            read_images(path)
    for cell in ({"bytes": b"\x89PNG", "path": "a.png"}, b"\x89PNG"):
        pq.write_table(pa.table({"image": [cell, cell], "label": ["x", "y"]}), path)
        with pytest.raises(
            DataError, match=r"paths of image files .* column 'image' holds the bytes of images"
        ):
            read_images(f"train={path},test={as_csv(folder / 'others')}")
    FRAME.head(0).to_parquet(path)
    with pytest.raises(DataError, match="columns only"):
        read_images(path)
    pq.write_table(pa.table([["x/a.png"], ["x"], ["y"]], names=["image", "label", "label "]), path)
    with pytest.raises(DataError, match="its own name, found image, label, label"):
        read_images(path)


@pytest.mark.parametrize("path", ["data=1/x=2", "plain"])
def test_the_folders_around_a_parquet_add_no_columns(folder: Path, path: str) -> None:
    (folder / path).mkdir(parents=True)
    FRAME.to_parquet(folder / path / "t.parquet")
    table = read_images(folder / path / "t.parquet", image_root=folder)
    assert list(table.frame) == ["image", "label", "group", "split", "age", "site"]


@pytest.mark.parametrize("header", ["image,label,label", "image,label,age,age", '"image",label,image'])
def test_two_columns_of_one_name_are_refused(folder: Path, header: str) -> None:
    (folder / "t.csv").write_text(f"{header}\n" + ",".join(["x/a.png"] * (header.count(",") + 1)) + "\n")
    with pytest.raises(DataError, match="its own name"):
        read_images(folder / "t.csv")


def test_a_huge_field_is_shortened_in_the_message(folder: Path) -> None:
    (folder / "t.csv").write_text(f"image,label\nx/a.png,x\n{'a' * 10_000_000},y\n")
    with pytest.raises(DataError, match="1 of 2 images") as caught:
        read_images(folder / "t.csv")
    assert len(str(caught.value)) < 600
    (folder / "t.csv").write_text(f"image,label\nx/a.png,x\ny/c.png,{'y' * 1_000_000}\n")
    with pytest.raises(DataError, match="labels of more than 200 characters") as caught:
        read_images(folder / "t.csv")
    assert len(str(caught.value)) < 600


def test_options_that_do_not_fit_are_refused(folder: Path) -> None:
    path = as_csv(folder / "t")
    with pytest.raises(UsageError, match="--root, --download can only be given with the name of a known set"):
        read_images(path, root=folder, download=True)
    with pytest.raises(UsageError, match="--label-col or --label-cols, got both"):
        read_images(path, label_col="label", label_cols="x,y")
    for columns in ("x", "x,x"):
        with pytest.raises(UsageError, match="two or more distinct columns"):
            read_images(path, label_cols=columns)
    with pytest.raises(UsageError, match="names of columns in --label-cols"):
        read_images(path, label_cols="x,,y")
    path.unlink()
    with pytest.raises(
        UsageError, match="--label-cols, --multi-label can only be given for a CSV or another table"
    ):
        read_images(folder, label_cols="x,y", multi_label=True)


def test_leaks_can_be_read_to_be_looked_into(folder: Path) -> None:
    (folder / "t.csv").write_text("image,label,group,split\nx/a.png,x,p,test\ny/c.png,y,p,train\n")
    with pytest.raises(DataError, match="leaks"):
        read_images(folder / "t.csv")
    assert read_images(folder / "t.csv", allow_leaks=True).groups.tolist() == ["p", "p"]


def test_whole_numbers_are_one_label_group_and_fold_however_they_are_stored(tmp_path: Path) -> None:
    """A column of whole numbers with a blank is stored as floats."""
    names = [f"{split}{at}.png" for split in ("train", "test") for at in range(4)]
    for name in names:
        (tmp_path / name).touch()
    whole = pd.DataFrame({"image": names[4:], "label": [0, 1, 0, 1], "group": [5, 6, 7, 8]})
    floats = pd.DataFrame(
        {"image": names[:4], "label": [0.0, 1.0, 0.0, 1.0], "group": [1.0, 2.0, None, 4.0]},
    ).astype({"label": "float32"})
    for suffix, write in {
        "parquet": lambda frame, path: frame.to_parquet(path),
        "csv": lambda frame, path: frame.to_csv(path, index=False),
        "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    }.items():
        source = ",".join(f"{split}={tmp_path / split}.{suffix}" for split in ("train", "test"))
        write(floats, tmp_path / f"train.{suffix}")
        write(whole, tmp_path / f"test.{suffix}")
        table = read_images(source, blank_groups="single")
        assert table.class_names == ("0", "1")
        assert set(table.groups) == {"1", "2", "train2.png", "4", "5", "6", "7", "8"}
        write(whole.assign(group=[5, 2, 7, 8]), tmp_path / f"test.{suffix}")
        with pytest.raises(DataError, match=r"1 groups .* \(2\)"):
            read_images(source, blank_groups="single")
    rows = "".join(
        f"{name},{'ab'[at % 2]},{['1', '1.0', '2.0', '2'][at % 4]}\n" for at, name in enumerate(names)
    )
    (tmp_path / "t.csv").write_text(f"image,label,cv\n{rows}")
    table = read_images(tmp_path / "t.csv", fold_col="cv")
    assert set(table.frame["given_fold"]) == {"1", "2"}
    (tmp_path / "several.jsonl").write_text(
        "".join(
            json.dumps({"image": name, "label": [[1.0, 2], [1, 2.0]][at % 2]}) + "\n"
            for at, name in enumerate(names)
        )
    )
    assert read_images(tmp_path / "several.jsonl", multi_label=True).class_names == ("1", "2")
