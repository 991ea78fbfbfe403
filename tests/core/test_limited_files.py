"""JSON, YAML and Parquet are read up to a size and a depth that whole files have; all else ends in a ValueError or OSError."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tametail.core import json_file
from tametail.core.json_file import MOST_LEVELS, read_json
from tametail.core.parquet_file import open_parquet, read_frame
from tametail.core.yaml_text import parse_yaml


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b'"\\ud800"',
        b"1" * 5000,
        nested(MOST_LEVELS + 1).encode(),
        nested(100_000).encode(),
        b'{"a":' * 100 + b"1" + b"}" * 100,
    ],
)
def test_what_is_not_json_of_results_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_json(path)


def test_json_up_to_the_limits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text(nested(MOST_LEVELS))
    value = read_json(path)
    for _ in range(MOST_LEVELS - 1):
        (value,) = value
    assert value == []
    path.write_text('{"é": [1.5, null]}', encoding="utf-8")
    assert read_json(path) == {"é": [1.5, None]}
    monkeypatch.setattr(json_file, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match="at most"):
        read_json(path)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder", "absent"):
        for read in (read_json, read_frame):
            with pytest.raises(OSError, match=r"."):
                read(tmp_path / name)


def test_yaml_with_anchors_is_read() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x\nc: {d: *x}") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}
    assert parse_yaml("[" * 20 + "]" * 20)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "&a [*a]",
        "a: &a {b: *a}",
        nested(21),
        nested(100_000),
        "- " * 5000,
        "[a" + ", a" * 500_000 + "]",
        "1" * 5000,
        "2001-99-99",
        "!!python/object/apply:os.getcwd []",
        "a: *absent",
        "{[1]: 2}",
        "\x00",
    ],
    ids=range(13),
)
def test_yaml_that_would_grow_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_yaml(text)


def test_a_table_is_read_as_by_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["x", None], "b": [1.5, 2.0], "c": [1, 2]}, index=[3, 1])
    frame.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_frame(tmp_path / "t.parquet"), pd.read_parquet(tmp_path / "t.parquet"))
    pd.testing.assert_frame_equal(
        read_frame(tmp_path / "t.parquet", ["c"]), pd.read_parquet(tmp_path / "t.parquet", columns=["c"])
    )
    with pytest.raises(ValueError, match="no column z"):
        read_frame(tmp_path / "t.parquet", ["a", "z"])


def test_a_small_table_that_claims_billions_of_values_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path, ones = tmp_path / "t.parquet", pa.array(np.ones(1_000_000))
    pq.write_table(pa.table({f"c{n}": ones for n in range(20)}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="found 1,000,000 rows of 20 columns"), open_parquet(path) as file:
        file.read()


@pytest.mark.parametrize(
    "metadata", [{b"pandas": b"[]"}, {b"pandas": b'{"index_columns": [1]}'}, {b"pandas": b"\xff"}]
)
def test_a_table_with_foreign_metadata_is_refused_or_read(
    metadata: dict[bytes, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), path)
    with suppress(ValueError):
        assert read_frame(path)["a"].tolist() == [1]


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([b"\xff"]).view(pa.string())}), path)
    with pytest.raises(ValueError, match=r"."):
        read_frame(path)
