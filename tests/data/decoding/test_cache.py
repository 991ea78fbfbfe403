from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.leftovers import left_over
from tametail.core.errors import DataError, TametailError
from tametail.data import ImageTable, cache_dir, decode_image, decoded_images, read_images
from tametail.data.decoding import cache
from tametail.data.decoding.cache import ChunkSettings


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


def write_images(root: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / "xy"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return root


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return read_images(write_images(tmp_path / "set"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    files: list[Path] = []

    def recorded(path: Path, size: int, **options: Any) -> np.ndarray:
        files.append(path)
        return decode_image(path, size, **options)

    monkeypatch.setattr(cache, "decode_image", recorded)
    return files


def expected(table: ImageTable, size: int) -> np.ndarray:
    return np.stack([decode_image(path, size) for path in table.paths])


def test_images_come_in_table_order_and_are_decoded_once(table: ImageTable, decoded: list[Path]) -> None:
    first = decoded_images(table, 16)
    assert np.array_equal(first.pixels, expected(table, 16))
    assert isinstance(next(iter(first.pixels)), np.memmap)
    assert first.readable.tolist() == [True] * 12
    assert first.errors == {}
    assert len(set(first.digests)) == 12
    assert len(decoded) == 12

    again = decoded_images(table, 16)
    assert len(decoded) == 12
    assert again.key == first.key
    assert np.array_equal(again.pixels, first.pixels)


def test_another_size_or_content_has_another_key(table: ImageTable) -> None:
    first = decoded_images(table, 16)
    assert decoded_images(table, 8).pixels.shape == (12, 8, 8, 3)
    Image.new("RGB", (20, 20), "red").save(table.paths[3])
    changed = decoded_images(table, 16)
    assert changed.key != first.key
    assert changed.pixels[3].tolist() == np.full((16, 16, 3), (255, 0, 0)).tolist()
    differing = [row for row in range(12) if changed.digests[row] != first.digests[row]]
    assert differing == [3]


def test_the_key_is_the_digest_of_what_the_pixels_depend_on(table: ImageTable) -> None:
    found = decoded_images(table, 16)
    described = json.dumps([cache.DECODER_VERSION, 16, 0, found.digests])  # no bit depth to choose
    assert found.key == hashlib.sha256(described.encode()).hexdigest()[:40]


def test_two_sizes_are_kept_side_by_side(table: ImageTable, decoded: list[Path]) -> None:
    for size in (16, 8, 16, 8):
        assert decoded_images(table, size).pixels.shape == (12, size, size, 3)
    assert len(decoded) == 24


def test_content_counts_and_not_where_it_lies(table: ImageTable, tmp_path: Path, decoded: list[Path]) -> None:
    first = decoded_images(table, 16)
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    assert decoded_images(read_images(tmp_path / "copy"), 16).key == first.key
    assert len(decoded) == 12


def test_unreadable_images_are_listed_and_left_out(table: ImageTable) -> None:
    table.paths[2].write_bytes(b"")
    table.paths[5].write_bytes(b"no image")
    table.paths[11].unlink()
    for _ in range(2):  # decoded, then found
        found = decoded_images(table, 16)
        assert np.flatnonzero(~found.readable).tolist() == [2, 5, 11]
        assert list(found.errors) == [table.images[row] for row in (2, 5, 11)]
        assert "empty" in found.errors[table.images[2]]
        assert "not an image" in found.errors[table.images[5]]
        assert "cannot be read" in found.errors[table.images[11]]
        kept = table.take(found.readable)
        assert np.array_equal(found.pixels, expected(kept, 16))


def test_nothing_readable_is_an_error(table: ImageTable, own_cache: Path) -> None:
    for path in table.paths:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"nothing is readable: all 12 files fail \(00.png: not an image"):
        decoded_images(table, 16)
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "longer",
        "emptied",
        "header",
        "record",
        "no record",
        "no pixels",
        "rows",
        "bit",
        "last bit",
        "old",
    ],
)
def test_damaged_cache_files_are_made_again(
    table: ImageTable,
    own_cache: Path,
    decoded: list[Path],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = decoded_images(table, 16, chunks=ChunkSettings(images=5)).key
    pixels, record = own_cache / f"{key}.npy", own_cache / f"{key}.json"
    data = pixels.read_bytes()
    match damage:
        case "cut":
            pixels.write_bytes(data[:-1000])
        case "longer":
            pixels.write_bytes(data + b"x")
        case "emptied":
            pixels.write_bytes(b"")
        case "header":
            pixels.write_bytes(bytes(200) + data[200:])
        case "record":
            record.write_text('{"bytes": 12')
        case "no record":
            record.unlink()
        case "no pixels":
            pixels.unlink()
        case "rows":
            record.write_text(json.dumps(json.loads(record.read_text()) | {"errors": {"0": "why"}}))
        case "bit" | "last bit":
            place = 128 + 6 * 768 if damage == "bit" else len(data) - 1
            pixels.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        case "old":  # written before there were checksums
            record.write_text(json.dumps({"bytes": len(data), "errors": {}}))
    found = decoded_images(table, 16)
    assert len(decoded) == 24
    assert np.array_equal(found.pixels, expected(table, 16))
    assert found.errors == {}
    warned = [
        record.getMessage() for record in caplog.records if record.name == "tametail.data.decoding.cache"
    ]
    assert len(warned) == (damage != "no record")
    assert all("are decoded again" in message for message in warned)
    assert decoded_images(table, 16).key == key
    assert len(decoded) == 24


def test_of_large_files_the_ends_and_sampled_chunks_are_verified(
    table: ImageTable, own_cache: Path, decoded: list[Path]
) -> None:
    chunks = ChunkSettings(images=1, verify_all=1000, sampled=1)
    pixels = own_cache / f"{decoded_images(table, 16, chunks=chunks).key}.npy"
    sound = pixels.read_bytes()
    for image, verified in ((0, True), (5, True), (11, True), (3, False)):
        place = 128 + image * 768
        pixels.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        before = len(decoded)
        decoded_images(table, 16, chunks=chunks)
        assert (len(decoded) > before) == verified


def test_shards_hold_the_pixels_of_one_file_and_need_not_be_built_again(
    table: ImageTable, own_cache: Path, decoded: list[Path]
) -> None:
    table.paths[2].write_bytes(b"no image")
    for row in (5, 6, 7, 8, 9):  # a shard of which nothing is readable
        table.paths[row].write_bytes(b"")
    whole = decoded_images(table, 16)
    for shard in (1, 5 * 768, 5 * 768 + 767):  # of one image, and of five
        found = decoded_images(table, 16, chunks=ChunkSettings(shard=shard))
        assert found.key == whole.key
        assert np.array_equal(found.pixels, whole.pixels)
        assert found.pixels.shape == (6, 16, 16, 3)
        assert (found.errors, found.readable.tolist()) == (whole.errors, whole.readable.tolist())
    assert len(list(own_cache.glob("*.npy"))) == 1 + 8 + 3  # equal empty files share a shard
    before = len(decoded)
    again = decoded_images(table, 16, chunks=ChunkSettings(shard=5 * 768))
    assert len(decoded) == before
    assert np.array_equal(again.pixels, whole.pixels)


@pytest.mark.parametrize("damage", ["evicted", "bit"])
def test_only_the_shard_that_is_gone_or_damaged_is_decoded_again(
    table: ImageTable, own_cache: Path, decoded: list[Path], damage: str
) -> None:
    chunks = ChunkSettings(shard=5 * 768)
    whole = np.array(decoded_images(table, 16, chunks=chunks).pixels)
    (second,) = [path for path in own_cache.glob("*.npy") if np.array_equal(np.load(path), whole[5:10])]
    data = second.read_bytes()
    match damage:
        case "evicted":
            second.with_suffix(".json").unlink()
            second.unlink()
        case "bit":
            second.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    del decoded[:]
    assert np.array_equal(decoded_images(table, 16, chunks=chunks).pixels, whole)
    assert sorted(decoded) == sorted(table.paths[5:10])
    assert second.read_bytes() == data


def test_the_chunks_that_are_verified_are_spread_over_all_shards(
    table: ImageTable, own_cache: Path, decoded: list[Path]
) -> None:
    chunks = ChunkSettings(images=1, verify_all=1000, sampled=2, shard=5 * 768)
    whole = np.array(decoded_images(table, 16, chunks=chunks).pixels)
    shards = {
        start: path
        for start in (0, 5, 10)
        for path in own_cache.glob("*.npy")
        if np.array_equal(np.load(path), whole[start : start + 5])
    }
    for image in range(12):
        verified = image in (0, 3, 7, 11)  # two in the first shard
        shard = shards[image // 5 * 5]
        place = 128 + image % 5 * 768
        data = shard.read_bytes()
        shard.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        before = len(decoded)
        decoded_images(table, 16, chunks=chunks)
        assert (len(decoded) > before) == verified
        shard.write_bytes(data)


def test_a_table_that_does_not_fit_is_refused_before_its_first_shard(
    table: ImageTable, own_cache: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE_GB", str(9000 / 1e9))  # 12 images are 9216 bytes
    with pytest.raises(TametailError, match="no space for"):
        decoded_images(table, 16, chunks=ChunkSettings(shard=5 * 768))
    assert decoded == []


def test_checksums_hold_where_a_whole_chunk_is_unreadable(table: ImageTable, decoded: list[Path]) -> None:
    for path in table.paths[2:5]:
        path.write_bytes(b"no image")
    first, again = (decoded_images(table, 16, chunks=ChunkSettings(images=2)) for _ in range(2))
    assert len(decoded) == 12
    assert np.array_equal(first.pixels, again.pixels)


def test_large_images_come_in_smaller_chunks(table: ImageTable) -> None:
    steps: list[int] = []
    decoded_images(table, 16, advance=steps.append, chunks=ChunkSettings(bytes=3 * 16 * 16 * 3))
    assert steps == [3, 3, 3, 3]


def test_an_interrupted_decoding_leaves_nothing_that_counts(
    table: ImageTable, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoded_images(table, 16, advance=interrupt)
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]
    key = decoded_images(table, 16).key
    (own_cache / f"{key}.json").unlink()
    (own_cache / f"{key}.npy").rename(left_over(own_cache / f"{key}.npy"))  # as after a kill
    assert np.array_equal(decoded_images(table, 16).pixels, expected(table, 16))
    assert not list(own_cache.glob("*.tmp"))


def test_progress_sums_to_the_number_of_images(table: ImageTable) -> None:
    steps: list[int] = []
    decoded_images(table, 16, advance=steps.append, chunks=ChunkSettings(images=5))
    assert steps == [5, 5, 2]
    decoded_images(table, 16, advance=steps.append)
    assert sum(steps) == 24


def test_a_full_disk_is_explained_and_leaves_nothing(
    table: ImageTable, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TametailError, match=r"no space left .* TAMETAIL_CACHE") as caught:
        decoded_images(table, 16)
    assert caught.value.exit_code == 1
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


def test_a_cache_folder_that_cannot_be_written_is_explained(
    table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        TametailError, match=r"cannot be used .* TAMETAIL_CACHE to a folder that can be written"
    ):
        decoded_images(table, 16)


def test_the_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("TAMETAIL_CACHE", "~/kept")
    assert cache_dir() == Path.home() / "kept"
    monkeypatch.setenv("TAMETAIL_CACHE", "")
    assert cache_dir().name == "tametail"


def test_many_rows_fit_the_header() -> None:
    """The header is written after the pixels, into the room left for it."""
    header = cache._npy_header((10**9, 1024, 1024, 3))
    assert len(header) == 128
    assert header.endswith(b"\n")
