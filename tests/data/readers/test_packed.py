"""Tables with their images in large files, on the disk and behind URLs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable, decoded_images, read_images, reading_facts
from tametail.data.decoding.decode import read_file
from tametail.data.packed import write_shards as pack

Kind = Literal["parquet", "webdataset"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """20 images in folders, with groups, a given test set and another column."""
    rng = np.random.default_rng(0)
    names = [f"{'abc'[row % 3]}/{row:02d}.png" for row in range(20)]
    for name in names:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).save(path)
    frame = pd.DataFrame(
        {
            "image": names,
            "label": ["x" if row % 2 else "ü|y" for row in range(20)],
            "group": [f"p{row // 2}" for row in range(20)],
            "split": ["test" if row < 6 else "train" for row in range(20)],
            "age": [float(row) if row else None for row in range(20)],
            "site": ["left" if row % 3 else None for row in range(20)],
        }
    )
    frame.to_csv(tmp_path / "set" / "labels.csv", index=False)
    return read_images(tmp_path / "set")


def assert_same(found: ImageTable, table: ImageTable) -> None:
    assert found.fingerprint == table.fingerprint
    pd.testing.assert_frame_equal(found.frame, table.frame, check_dtype=False)
    for name in ("class_names", "name", "multi_label", "synthetic", "reading", "bit_depth"):
        assert getattr(found, name) == getattr(table, name), name
    assert [read_file(path) for path in found.paths] == [path.read_bytes() for path in table.paths]
    assert np.array_equal(decoded_images(found, 8).pixels, decoded_images(table, 8).pixels)


KINDS = pytest.mark.parametrize("kind", ["parquet", "webdataset"])


@KINDS
def test_a_packed_table_is_read_as_it_was(table: ImageTable, tmp_path: Path, kind: Kind) -> None:
    steps: list[int] = []
    files = pack(table, tmp_path / "out", kind=kind, advance=steps.append)
    assert set((tmp_path / "out").iterdir()) == set(files)
    assert sum(steps) == 20
    found = read_images(tmp_path / "out")
    assert_same(found, table)
    assert dict(reading_facts(found)) == dict(reading_facts(table))
    again = read_images(str(tmp_path / "out"))
    assert again.root == found.root


@KINDS
def test_a_subset_of_packed_data_is_given_as_a_table(table: ImageTable, tmp_path: Path, kind: Kind) -> None:
    pack(table, tmp_path / "out", kind=kind)
    found = read_images(tmp_path / "out")
    rows = [1, 2, 7, 8]
    frame = found.frame.iloc[rows].assign(image=[image.removesuffix(".png") for image in found.images[rows]])
    frame.to_csv(tmp_path / "some.csv", index=False)
    some = read_images(tmp_path / "some.csv", image_root=found.root)
    assert some.images.tolist() == table.images[rows].tolist()
    assert np.array_equal(
        decoded_images(some, 8).pixels, decoded_images(table, 8).pixels.take(np.array(rows))
    )
    frame.assign(image="../x.png").to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(DataError, match="lie outside"):
        read_images(tmp_path / "none.csv", image_root=found.root)


@KINDS
def test_shards_are_of_the_size_that_is_asked_for(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setattr("tametail.data.packed._GROUP_ROWS", 3)
    if kind == "webdataset":
        *files, _, _ = pack(table, tmp_path / "out", kind=kind, shard_bytes=1)
        assert [file.name for file in files] == [f"{number:05d}.tar" for number in range(7)]
        assert_same(read_images(tmp_path / "out"), table)
        return
    files = pack(table, tmp_path / "out", shard_bytes=1)
    rows = [pq.ParquetFile(file).metadata.num_rows for file in files]
    assert rows == [3, 3, 3, 3, 3, 3, 2]
    assert_same(read_images(tmp_path / "out"), table)
    monkeypatch.setattr("tametail.data.packed._GROUP_BYTES", 1)
    (file,) = pack(table, tmp_path / "small groups")
    assert pq.ParquetFile(file).metadata.num_row_groups == 20


@KINDS
def test_labels_that_are_unknown_given_folds_and_absent_classes_are_kept(
    table: ImageTable, tmp_path: Path, kind: Kind
) -> None:
    frame = table.frame.assign(
        label=["a|b" if row % 2 else "" for row in range(20)],
        split="",
        unknown_labels=["c" if row % 3 else "" for row in range(20)],
        given_fold=[str(row // 2 % 3) for row in range(20)],
    )
    several = ImageTable.from_frame(frame, table.root, "several", multi_label=True, synthetic=True)
    several = replace(several, class_names=("a", "b", "c", "d"))
    pack(several, tmp_path / "out", kind=kind)
    found = read_images(tmp_path / "out")
    assert_same(found, replace(several, reading=found.reading))
    assert np.array_equal(found.unknown, several.unknown)


def test_what_can_be_given_with_a_packed_table(table: ImageTable, tmp_path: Path) -> None:
    pack(table, tmp_path / "out")
    with pytest.raises(UsageError, match=r"--label-col .* packed shards; leave it out"):
        read_images(tmp_path / "out", label_col="site")
    assert read_images(tmp_path / "out", bit_depth=12).bit_depth == 12
    with pytest.raises(UsageError, match="already exists"):
        pack(table, tmp_path / "out")
    wrong = replace(table, frame=table.frame.assign(image_bytes="x"))
    with pytest.raises(UsageError, match="expected no columns image_bytes"):
        pack(wrong, tmp_path / "other")


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_left(table: ImageTable, tmp_path: Path) -> None:
    table.paths[4].unlink()
    with pytest.raises(
        DataError, match=rf"but {table.images[4]}: the file cannot be read .*tametail inspect"
    ):
        pack(table, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def rewritten(path: Path, **columns: list[object]) -> None:
    shard = pq.read_table(path)
    for name, values in columns.items():
        at = shard.schema.get_field_index(name)
        shard = shard.set_column(at, shard.schema.field(at), pa.array(values, shard.schema.field(at).type))
    pq.write_table(shard, path)


@pytest.mark.parametrize("damage", ["missing", "other", "cut", "outside", "order", "version"])
def test_missing_and_damaged_shards_are_named(
    table: ImageTable, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tametail.data.packed._GROUP_ROWS", 7)
    first, second, *_ = pack(table, tmp_path / "out", shard_bytes=1)
    expected = {
        "missing": "expected 20 images in the shards of .*, found 13; copy all",
        "other": "shards of one table, .* 00001.parquet is none of them",
        "cut": "out cannot be read: .*; check its name",
        "outside": r"expected image names inside of .*, found .*\.\./x.png",
        "order": "expected images in sorted order",
        "version": "expected shards of one table, as tametail pack of this version",
    }[damage]
    match damage:
        case "missing":
            second.unlink()
        case "other":
            pack(replace(table, name="other"), tmp_path / "others", shard_bytes=1)
            shutil.copy(tmp_path / "others" / second.name, second)
        case "cut":
            second.write_bytes(second.read_bytes()[:-300])
        case "outside":
            rewritten(first, image=["../x.png", *pq.read_table(first)["image"].to_pylist()[1:]])
        case "order":
            rewritten(first, image=pq.read_table(first)["image"].to_pylist()[::-1])
        case "version":
            for path in (tmp_path / "out").iterdir():
                shard = pq.read_table(path)
                metadata = shard.schema.metadata or {}
                described = json.loads(metadata[b"tametail"]) | {"version": 99}
                changed = {**metadata, b"tametail": json.dumps(described).encode()}
                pq.write_table(shard.replace_schema_metadata(changed), path)
    with pytest.raises(DataError, match=expected):
        read_images(tmp_path / "out")
    assert not list((tmp_path / "cache").glob("packed/*/*"))


@KINDS
def test_a_damaged_image_is_one_that_cannot_be_read(table: ImageTable, tmp_path: Path, kind: Kind) -> None:
    first, *_ = pack(table, tmp_path / "out", kind=kind)
    if kind == "parquet":
        rewritten(first, image_bytes=[b"x", *pq.read_table(first)["image_bytes"].to_pylist()[1:]])
    else:
        content = first.read_bytes()
        at = content.index(read_file(table.paths[0])) + 50
        first.write_bytes(content[:at] + b"#" + content[at + 1 :])
    found = decoded_images(read_images(tmp_path / "out"), 8)
    assert {image: "is damaged or was changed" in why for image, why in found.errors.items()} == {
        table.images[0]: True
    }


@KINDS
def test_files_that_were_removed_from_the_cache_are_written_again(
    table: ImageTable, tmp_path: Path, kind: Kind
) -> None:
    pack(table, tmp_path / "out", kind=kind)
    found = read_images(tmp_path / "out")
    for pattern in ("*.bin", "*.parquet", "*"):
        assert_same(found, table)
        for file in (tmp_path / "cache" / "packed").glob(pattern):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        found = read_images(tmp_path / "out") if pattern == "*" else found
    assert_same(found, table)


@KINDS
@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_url_is_a_source(table: ImageTable, tmp_path: Path, where: str, kind: Kind) -> None:
    pack(table, tmp_path / "out", kind=kind, shard_bytes=1)
    url = f"file://{tmp_path}/out" if where == "file" else f"memory://{kind}/packed"
    if where == "memory":
        fsspec.filesystem("memory").put(f"{tmp_path}/out", f"/{kind}/packed", recursive=True)
    assert_same(read_images(url), table)
    assert_same(read_images(f"{url}/"), table)


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        (
            "memory://nothing/here",
            DataError,
            "expected the .parquet files of tametail pack, or the .tar files of a WebDataset, in memory://nothing/here",
        ),
        ("nosuch://bucket/packed", DataError, "nosuch://bucket/packed cannot be read: .*nosuch"),
        ("adl://bucket/packed", UsageError, "adl://bucket/packed cannot be opened: .*adl"),
    ],
)
def test_urls_that_cannot_be_read_are_explained(url: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_images(url)


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket of a server on this machine."""
    for package in ("moto", "s3fs"):
        pytest.importorskip(package, reason="needs pip install 's3fs' 'moto[server]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "moto.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ.copy())
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of an earlier server
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.filterwarnings("ignore")  # of the packages for S3
@KINDS
def test_a_bucket_is_a_source(
    s3: str, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setattr("tametail.data.packed._GROUP_ROWS", 3)
    for file in pack(table, tmp_path / "out", kind=kind, shard_bytes=1):
        fsspec.filesystem("s3").put_file(str(file), f"{s3}/packed/{file.name}")
    found = read_images(f"{s3}/packed")
    assert not list((tmp_path / "cache" / "packed").glob("*.bin"))
    assert_same(found, table)
    assert len(list((tmp_path / "cache" / "packed").glob("*.bin"))) == 7
    with pytest.raises(DataError, match="found none"):
        read_images(f"{s3}/absent")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "../../elsewhere"}, "expected the name of a data set"),
        ({"name": "a/b"}, "expected the name of a data set"),
        ({"name": 3}, "cannot be read"),
        ({"images": None}, "expected None|cannot be read"),
        ({"reading": 3}, "cannot be read"),
        ({"class_names": 3}, "cannot be read"),
    ],
)
def test_a_description_by_somebody_else_harms_nothing(
    table: ImageTable, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    (file,) = pack(table, tmp_path / "out")
    shard = pq.read_table(file)
    described = json.loads(shard.schema.metadata[b"tametail"])
    for content in (described | changed, {key: described[key] for key in described if key not in changed}):
        metadata = shard.schema.metadata | {b"tametail": json.dumps(content).encode()}
        pq.write_table(shard.replace_schema_metadata(metadata), file)
        with pytest.raises(DataError, match=message if content.keys() == described.keys() else "out"):
            read_images(tmp_path / "out")
