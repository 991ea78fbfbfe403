"""Copies of shards in the cache: one at a time, within its limit, through kills."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from tametail.core.console import Console, set_current_console
from tametail.core.errors import DataError, TametailError
from tametail.core.removal import is_temporary
from tametail.data import ImageTable, decoded_images, read_file, read_images
from tametail.data.packed import write_shards

SHARDS, ROWS = 5, 4  # images per shard


class Remote(MemoryFileSystem):  # type: ignore[misc]
    """Files at a URL, with a record of those that were opened."""

    protocol = "remote"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    opened: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("remote://", "memory://")))

    def _open(self, path: str, *args: object, **options: object) -> object:
        self.opened.append(path.rsplit("/", 1)[-1])
        return super()._open(path, *args, **options)


fsspec.register_implementation("remote", Remote, clobber=True)


@pytest.fixture(params=["parquet", "webdataset"])
def remote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[ImageTable]:
    """A table of noise of about 30 kB per image, packed at remote://set."""
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tametail.data.packed._GROUP_ROWS", ROWS)
    rng = np.random.default_rng(0)
    rows = range(SHARDS * ROWS)
    (tmp_path / "set").mkdir()
    for row in rows:
        Image.fromarray(rng.integers(0, 256, (100, 100, 3), np.uint8)).save(
            tmp_path / "set" / f"{row:02d}.png"
        )
    frame = pd.DataFrame(
        {"image": [f"{row:02d}.png" for row in rows], "label": ["ab"[row % 2] for row in rows]}
    )
    frame.to_csv(tmp_path / "set" / "labels.csv", index=False)
    table = read_images(tmp_path / "set")
    write_shards(table, tmp_path / "out", kind=request.param, shard_bytes=1)
    Remote.store.clear()
    for path in (tmp_path / "out").iterdir():
        Remote().pipe_file(f"/set/{path.name}", path.read_bytes())
    Remote.opened.clear()
    yield table
    Remote.store.clear()


def copies(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "packed").glob("*.bin"))


def copied() -> list[str]:
    """The shards whose images were copied; those of Parquet are opened for their table first."""
    return [name for name in Remote.opened if name != "table.parquet" and name[0] == "0"]


def test_reading_a_table_copies_no_image(remote: ImageTable, tmp_path: Path) -> None:
    table = read_images("remote://set")
    assert table.fingerprint == remote.fingerprint
    assert copies(tmp_path) == []
    Remote.opened.clear()
    assert read_file(table.paths[9]) == remote.paths[9].read_bytes()
    assert [name[:5] for name in copied()] == ["00002"]
    assert len(copies(tmp_path)) == 1
    decoded_images(table, 8)
    assert sorted(name[:5] for name in copied()) == [f"{number:05d}" for number in (0, 1, 2, 3, 4)]
    for copy in copies(tmp_path):
        copy.unlink()
    Remote.opened.clear()
    decoded_images(read_images("remote://set"), 8)
    assert copies(tmp_path) == []  # decoded images need none


def test_the_copies_stay_within_the_limit_of_the_cache(
    remote: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 400_000  # three shards
    monkeypatch.setenv("TAMETAIL_CACHE_GB", str(limit / 1e9))
    table = read_images("remote://set")
    largest = 0
    for path, original in zip(table.paths, remote.paths, strict=True):
        assert read_file(path) == original.read_bytes()
        largest = max(largest, sum(copy.stat().st_size for copy in copies(tmp_path)))
    assert 200_000 < largest <= limit
    found = decoded_images(table, 8)
    assert not found.errors
    assert np.array_equal(found.pixels, decoded_images(remote, 8).pixels)
    assert sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*.[bn][ip][ny]")) <= limit


def test_threads_that_read_at_once_copy_a_shard_once(
    remote: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "0.0004")
    table = read_images("remote://set")
    Remote.opened.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_file, table.paths))
    assert found == [path.read_bytes() for path in remote.paths]
    assert len(copied()) <= SHARDS + 3


def test_what_cannot_fit_is_refused_before_anything_is_copied(
    remote: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "0.0002")
    with pytest.raises(
        TametailError, match=r"no space for 0\.000\d+ GB .* may hold 0.0002 GB.*smaller --shard-mb"
    ):
        read_images("remote://set")
    assert copies(tmp_path) == []


def test_decoded_images_are_never_removed_for_copies_of_the_same_process(
    remote: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "0.0004")
    table = read_images("remote://set")
    with pytest.raises(TametailError, match="no space for"):  # pixels and two shards
        decoded_images(table, 64)
    pixels = decoded_images(table, 40)
    assert len(list((tmp_path / "cache" / "decoded").glob("*.npy"))) == 1
    for path in table.paths:
        read_file(path)
    assert (tmp_path / "cache" / "decoded" / f"{next(iter(pixels.shards))}.npy").exists()


@pytest.mark.parametrize("remote", ["webdataset"], indirect=True)
def test_a_file_that_changes_while_it_is_copied_is_named(remote: ImageTable, tmp_path: Path) -> None:
    table = read_images("remote://set")
    name = next(name for name in Remote.store if "00003" in name)
    content = Remote().cat_file(name)
    for changed in (content[:-20_000], content + bytes(20_000)):
        Remote().pipe_file(name, changed)
        with pytest.raises(TametailError, match=r"expected [\d,]+ bytes at .*00003.tar, as listed"):
            read_file(table.paths[13])
    assert not [path for path in (tmp_path / "cache").rglob("*") if is_temporary(path.name)]
    Remote().pipe_file(name, content)
    assert read_file(table.paths[13]) == remote.paths[13].read_bytes()


def test_each_copy_is_announced(remote: ImageTable, capsys: pytest.CaptureFixture[str]) -> None:
    set_current_console(Console())
    try:
        table = read_images("remote://set")
        read_file(table.paths[0])
        read_file(table.paths[1])
    finally:
        set_current_console(Console(quiet=True))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Copying remote://set/00000.")
    assert lines[0].endswith("GB) to the cache")


READ_SLOWLY = """
import sys, time
from tametail.data import read_images, read_file
from tametail.data.decoding import shards
shards._BLOCK = 10_000
write = shards._Bounded.write
shards._Bounded.write = lambda *given: (time.sleep(0.02), write(*given))
print("reads", flush=True)
for path in read_images(sys.argv[1]).paths:
    read_file(path)
    print(path, flush=True)
"""


def test_what_a_killed_process_had_copied_is_not_copied_again(remote: ImageTable, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/out"
    table = read_images(url)
    kept: dict[Path, int] = {}
    for lines in (1, 7):
        process = subprocess.Popen(
            [sys.executable, "-c", READ_SLOWLY, url], stdout=subprocess.PIPE, env=os.environ.copy(), text=True
        )
        assert process.stdout is not None
        for _ in range(lines + 1):
            process.stdout.readline()
        time.sleep(0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert all(copy.stat().st_ino == inode for copy, inode in kept.items())
        kept = {copy: copy.stat().st_ino for copy in copies(tmp_path)}
        assert len(kept) >= lines // ROWS + 1
    assert [read_file(path) for path in table.paths] == [path.read_bytes() for path in remote.paths]
    assert all(copy.stat().st_ino == inode for copy, inode in kept.items())
    assert len(copies(tmp_path)) == SHARDS
    read_images(url)
    assert not [path for path in (tmp_path / "cache").rglob("*") if is_temporary(path.name)]


def test_damaged_copies_are_made_again(remote: ImageTable, tmp_path: Path) -> None:
    table = read_images("remote://set")
    read_file(table.paths[0])
    (copy,) = copies(tmp_path)
    content = copy.read_bytes()
    copy.write_bytes(content[:2000] + bytes(2000) + content[4000:])
    assert read_file(table.paths[0]) == remote.paths[0].read_bytes()
    index = copy.with_suffix(".parquet")
    index.write_bytes(b"PAR1")
    os.utime(index, (1, 1))
    with pytest.raises(TametailError, match=r"is damaged .*; remove it"):
        read_file(table.paths[0])
    with pytest.raises(DataError, match="cannot be read"):
        read_file(table.root / "absent.png")


def test_dicom_in_a_shard_is_read(remote: ImageTable, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    from tametail.data.readers.dicom_headers import identifying_attributes

    path = get_testdata_file("CT_small.dcm")
    (tmp_path / "dicom").mkdir()
    for number in range(2):
        header = pydicom.dcmread(path)
        buffer = io.BytesIO()
        header.save_as(buffer)
        (tmp_path / "dicom" / f"{number}.dcm").write_bytes(buffer.getvalue())
    pd.DataFrame({"image": ["0.dcm", "1.dcm"], "label": ["a", "b"]}).to_csv(
        tmp_path / "dicom" / "labels.csv", index=False
    )
    table = read_images(tmp_path / "dicom")
    for kind in ("parquet", "webdataset"):
        write_shards(table, tmp_path / f"dicom {kind}", kind=kind)
        found = read_images(tmp_path / f"dicom {kind}")
        assert np.array_equal(decoded_images(found, 16).pixels, decoded_images(table, 16).pixels)
        assert identifying_attributes(found.paths[0]) == identifying_attributes(table.paths[0]) != []
