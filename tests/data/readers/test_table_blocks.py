"""Tables read by blocks of rows: the cells of `read_table_file`, whatever the size of the blocks, and errors that name rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fixtures.small_blocks import ROWS, use_small_blocks
from tametail.core.errors import DataError
from tametail.data.readers.table_blocks import read_table_blocks
from tametail.data.readers.table_file import read_table_file

BLOCK_SIZES = [1, 2, ROWS, 10_000]
TEXTS = [" a ", "007", "1.0", "NA", "nan", "", "ö, ü", 'say "x"', "two\nlines", "True", "1e-3"]
NUMBERS = ["0.5", "1", "-3", "1e-05", " 2.5", "1_000", "0.1234567890123", "7", "8", "9", "1e300"]
WRONG = ["", "nan", "NA", "inf", "high", "0,5", "True", "1", "2", "3", "4"]


def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, "x": NUMBERS, " wrong ": WRONG, "": TEXTS})


def as_floats(texts: list[str]) -> list[float]:
    found = []
    for text in texts:
        try:
            found.append(float(text))
        except ValueError:
            found.append(np.nan)
    return found


def numbers(path: Path, *columns: str) -> np.ndarray:
    return np.concatenate(list(read_table_blocks(path).numbers(columns)))


@pytest.mark.parametrize("rows", BLOCK_SIZES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_delimited_text_in_blocks_is_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, encoding: str, name: str, separator: str
) -> None:
    use_small_blocks(monkeypatch, rows)
    path = tmp_path / name
    frame().to_csv(path, index=False, sep=separator, encoding=encoding)
    whole, blocks = read_table_file(path), read_table_blocks(path)
    assert blocks.columns == whole.columns == ["text", "x", "wrong"]
    assert blocks.texts(["text", "wrong"]) == {column: whole.text(column) for column in ("text", "wrong")}
    np.testing.assert_allclose(numbers(path, "x")[:, 0], as_floats(NUMBERS), rtol=1e-15)
    np.testing.assert_array_equal(numbers(path, "wrong")[:, 0], as_floats(WRONG))


@pytest.mark.parametrize("rows", BLOCK_SIZES)
def test_parquet_in_blocks_is_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    use_small_blocks(monkeypatch, rows)
    path = tmp_path / "a.parquet"
    columns = {
        "text": pa.array([*TEXTS[:-1], None]),
        " f ": pa.array([*np.linspace(0, 1, 10), None], pa.float32()),
        "i.j": pa.array([*range(10), None], pa.int64()),
        "written": pa.array(WRONG).dictionary_encode(),
        "yes": pa.array([True] * 11),
        "__index_level_0__": pa.array(range(11)),
    }
    pq.write_table(pa.table(columns), path, row_group_size=4)
    whole, blocks = read_table_file(path), read_table_blocks(path)
    assert blocks.columns == whole.columns
    assert blocks.texts(blocks.columns) == {column: whole.text(column) for column in whole.columns}
    found = numbers(path, "f", "i.j", "written", "yes")
    np.testing.assert_allclose(found[:, 0], [*np.linspace(0, 1, 10), np.nan], rtol=1e-7)
    np.testing.assert_array_equal(found[:, 1], [*range(10), np.nan])
    np.testing.assert_array_equal(found[:, 2], as_floats(WRONG))
    assert np.isnan(found[:, 3]).all()


@pytest.mark.parametrize("rows", BLOCK_SIZES)
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_wholly_blank_rows_are_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, ending: str
) -> None:
    use_small_blocks(monkeypatch, rows)
    path = tmp_path / f"a.{ending}"
    image, score = ["a", None, "b", None, "c", None], [0.5, None, None, 0.25, 1.0, None]
    if ending == "csv":
        written = [
            f"{'' if i is None else i},{'' if x is None else x}" for i, x in zip(image, score, strict=True)
        ]
        path.write_text("\n".join(["image,x", *written[:2], " ", *written[2:]]) + "\n")
    elif ending == "parquet":
        pq.write_table(pa.table({"image": image, "x": score}), path)
    else:
        lines = [{"image": i, "x": x} for i, x in zip(image, score, strict=True)]
        path.write_text("\n".join(map(json.dumps, lines)))
    assert read_table_blocks(path).texts(["image"]) == {"image": ["a", "b", "", "c"]}
    np.testing.assert_array_equal(numbers(path, "x")[:, 0], [0.5, np.nan, 0.25, 1.0])


@pytest.mark.parametrize("rows", BLOCK_SIZES)
@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("more", [",9", ",9,9"])
def test_a_row_with_more_fields_than_the_header_is_reported_wherever_a_block_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, at: int, more: str
) -> None:
    use_small_blocks(monkeypatch, rows)
    lines = [f"{row}.png,0.5" for row in range(9)]
    lines[at] += more
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["image,x", *lines]))
    for read in (lambda: read_table_blocks(path).texts(["image"]), lambda: numbers(path, "x")):
        with pytest.raises(
            DataError, match=rf"more fields than its header \((row {at + 1} |line {at + 2}\))"
        ):
            read()


def test_fields_that_short_rows_lack_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("image,x,y\na,1,2\nb\nc,3\nd,4,5,\n")
    assert read_table_blocks(path).texts(["image", "y"]) == {"image": list("abcd"), "y": ["2", "", "", "5"]}
    np.testing.assert_array_equal(numbers(path, "x", "y"), [[1, 2], [np.nan] * 2, [3, np.nan], [4, 5]])


BROKEN = [
    ("a.csv", b"", "it is empty"),
    ("a.csv", b"image,x\n", "a header only"),
    ("a.csv", b"image,x\n,\n , \n", "every row is blank"),
    ("a.csv", b"image,image\na,b\n", "its own name"),
    ("a.csv", b"image,\0\n", "not text"),
    ("a.csv", b'image,x\n"a,1\n', "cannot be read as CSV"),
    ("a.parquet", b"PAR1", "cannot be read as Parquet"),
    ("a.ods", b"", "ods"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_what_is_no_table_is_reported(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table_blocks(tmp_path / name).texts(["image"])


def test_parquet_of_images_of_lists_and_without_rows_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for columns, message in (
        ({"image": [b"x"]}, "bytes of images"),
        ({"image": [["x"]]}, "row 1; for images with several classes"),
        ({"image": pa.array([], pa.string())}, "columns only"),
        ({"image": [None]}, "every row is blank"),
    ):
        pq.write_table(pa.table(columns), path)
        with pytest.raises(DataError, match=message):
            read_table_blocks(path).texts(["image"])
