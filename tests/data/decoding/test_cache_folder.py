from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from fixtures.leftovers import contents, left_over, make, make_home
from tametail.core.errors import TametailError, UsageError
from tametail.core.removal import temporary_sibling
from tametail.data import cache_dir, decode_image, decoded_images, read_images
from tametail.data.decoding import cache
from tametail.data.decoding.cache import ChunkSettings
from tametail.data.decoding.cache_folder import cache_limit, make_room


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three decoded sets and the features of one, 1000 bytes each; the oldest is ``a``."""
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    for age, name in enumerate(("decoded/a", "features/b", "decoded/c", "decoded/d")):
        path = tmp_path / "cache" / f"{name[:-1]}{name[-1] * 40}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(990 if "decoded" in name else 1000))
        if "decoded" in name:
            path.with_suffix(".json").write_bytes(bytes(10))
        for file in path.parent.glob(f"{path.stem}.*"):
            os.utime(file, (1000 + age, 1000 + age))
    return tmp_path / "cache"


def kept(folder: Path) -> str:
    return "".join(sorted(path.stem[0] for path in folder.rglob("*.npy")))


def limit_to(monkeypatch: pytest.MonkeyPatch, bytes_: int) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE_GB", str(bytes_ / 1e9))


def test_the_limit_is_100_gb_or_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, limit in (("", 100e9), ("2.5", 2.5e9), (" 7 ", 7e9)):
        monkeypatch.setenv("TAMETAIL_CACHE_GB", text)
        assert cache_limit() == limit
    for text in ("much", "0", "-1", "nan", "inf", "1,5"):
        monkeypatch.setenv("TAMETAIL_CACHE_GB", text)
        with pytest.raises(UsageError, match=rf"TAMETAIL_CACHE_GB to be a number .* got '{text}'"):
            cache_limit()


@pytest.mark.parametrize(
    ("limit", "needed", "left"),
    [(5000, 1000, "abcd"), (5000, 1001, "bcd"), (4000, 2000, "cd"), (4000, 3500, ""), (10, 10, "")],
)
def test_what_was_unused_for_longest_goes_until_it_fits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: int, needed: int, left: str
) -> None:
    limit_to(monkeypatch, limit)
    make_room(needed)
    assert kept(folder) == left
    assert {path.stem[0] for path in folder.rglob("*.json")} == set(left) - {"b"}


def test_copies_of_shards_go_before_what_was_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = make(folder / "packed" / f"{'e' * 40}.bin", "x" * 1000)
    index = make(copy.with_suffix(".parquet"))
    limit_to(monkeypatch, 5000)
    make_room(1000)
    assert kept(folder) == "abcd"
    assert not copy.exists()
    assert index.exists()


def test_what_is_kept_or_locked_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 4000)
    with FileLock(folder / "decoded" / f"{'a' * 40}.lock"):
        make_room(1500, keep={"c" * 40})
    assert kept(folder) == "ac"


def test_what_a_killed_process_was_writing_goes_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [make(left_over(folder / name)) for name in ("decoded/x.npy", "features/y.npy")]
    alive = make(temporary_sibling(folder / "decoded" / "z.npy"))
    limit_to(monkeypatch, 5000)
    make_room(1000)
    assert kept(folder) == "abcd"
    assert not any(path.exists() for path in left)
    assert alive.exists()


def test_only_entries_of_the_cache_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(folder / "features" / "own")
    for name in ("notes.npy", ".hidden", "thesis.json"):
        make(folder / "decoded" / name)
    make(home / f"{'e' * 40}.npy")
    (folder / "decoded" / f"{'f' * 40}.npy").symlink_to(home / "notes.txt")
    before = contents(folder)
    limit_to(monkeypatch, 10)
    make_room(10)
    gone = {f"decoded/{key * 40}.{kind}" for key in "acd" for kind in ("npy", "json")} | {
        f"features/{'b' * 40}.npy"
    }
    assert {name: text for name, text in contents(folder).items() if not name.endswith(".lock")} == {
        name: text for name, text in before.items() if name not in gone
    }


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_the_disk_counts_as_well_as_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 500))
    make_room(1400)
    assert kept(folder) == "bcd"


def test_what_cannot_fit_is_explained_and_removes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_to(monkeypatch, 4_000_000)
    with pytest.raises(TametailError, match=r"no space for 0.05 GB") as caught:
        make_room(50_000_000)
    for words in (
        str(folder),
        "may hold 0.004 GB",
        "are free",
        "TAMETAIL_CACHE_GB",
        "TAMETAIL_CACHE,",
        "smaller",
    ):
        assert words in str(caught.value)
    assert kept(folder) == "abcd"


def test_decoding_makes_room_for_itself_and_spares_what_was_found_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        path = tmp_path / "set" / "xy"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    table = read_images(tmp_path / "set")
    first = decoded_images(table, 16).key  # 4 × 768 bytes
    second = decoded_images(table, 8).key
    for key, time in ((first, 5000), (second, 6000)):
        for file in (folder / "decoded").glob(f"{key}*"):
            os.utime(file, (time, time))
    decoded_images(table, 16)
    limit_to(monkeypatch, 5500)
    decoded_images(table, 12)
    left = {path.stem for path in folder.rglob("*.npy")}
    assert first in left
    assert len(left) == 2
    assert not left & {second, *(key * 40 for key in "abcd")}
    limit_to(monkeypatch, 3000)
    with pytest.raises(TametailError, match="no space for"):
        decoded_images(table, 20)
    assert cache_dir() == folder


def test_single_shards_of_a_table_are_removed_and_those_in_use_are_not(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "set" / "xy"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    table = read_images(tmp_path / "set")
    shutil.rmtree(folder)
    chunks = ChunkSettings(shard=2 * 768)  # three shards of 1664 bytes and their records
    decoded_images(table, 16, chunks=chunks)
    whole = sum(path.stat().st_size for path in (folder / "decoded").glob("*.*"))
    limit_to(monkeypatch, whole + 1700)
    decoded_images(table, 8, chunks=chunks)  # 1280 bytes
    assert len(list((folder / "decoded").glob("*.npy"))) == 4
    expected = np.stack([decode_image(path, 16) for path in table.paths])
    shards = [np.load(path) for path in (folder / "decoded").glob("*.npy")]
    assert sorted(shard.shape[1] for shard in shards) == [8, 16, 16, 16]
    for path in (folder / "decoded").glob("*.npy"):
        if np.array_equal(
            np.load(path), expected[:2]
        ):  # the first one is gone, the others are the oldest entries
            path.unlink()
            path.with_suffix(".json").unlink()
        elif np.load(path).shape[1] == 16:
            for file in (path, path.with_suffix(".json")):
                os.utime(file, (1000, 1000))
    limit_to(monkeypatch, whole + 100)
    steps: list[int] = []
    monkeypatch.setattr(cache, "decode_image", lambda *a, **k: steps.append(1) or decode_image(*a, **k))
    assert np.array_equal(decoded_images(table, 16, chunks=chunks).pixels, expected)
    assert len(steps) == 2  # no other shard of the table was removed for it
    left = [np.load(path).shape[1] for path in (folder / "decoded").glob("*.npy")]
    assert left == [16, 16, 16]  # the missing shard took the place of the other size
