from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tametail.data.decoding.cache import UNREADABLE, content_digests


class RecordingPool(ThreadPoolExecutor):
    """A pool that keeps the names of the files it is given to read."""

    def __init__(self) -> None:
        super().__init__(2)
        self.names: list[str] = []

    def map(self, call: Callable[..., Any], *paths: Iterable[Path], **options: Any) -> Iterator[Any]:
        (files,) = map(list, paths)
        self.names += [path.name for path in files]
        return super().map(call, files, **options)


@pytest.fixture
def pool() -> Iterator[RecordingPool]:
    with RecordingPool() as pool:
        yield pool


@pytest.fixture
def read(pool: RecordingPool) -> list[str]:
    """Names of the files that were read."""
    return pool.names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for name in "abc":
        (tmp_path / "set" / name).write_bytes(name.encode() * 1000)
    return tmp_path / "set"


NAMES = ["a", "b", "c", "absent"]


def expected(root: Path) -> list[str]:
    found = [hashlib.blake2b((root / name).read_bytes(), digest_size=16).hexdigest() for name in "abc"]
    return [*found, UNREADABLE]


def test_unchanged_files_are_read_once(root: Path, read: list[str], pool: ThreadPoolExecutor) -> None:
    memory = root.parent / "digests.sqlite"
    for _ in range(3):
        assert list(content_digests(root, NAMES, pool, memory, settled=0)) == expected(root)
    assert sorted(read) == sorted([*NAMES, "absent", "absent"])
    assert b"set" not in memory.read_bytes()  # no path in it


@pytest.mark.parametrize("change", ["content", "content and times", "replaced", "moved"])
def test_changed_files_are_read_again(
    root: Path, read: list[str], pool: ThreadPoolExecutor, change: str
) -> None:
    memory = root.parent / "digests.sqlite"
    content_digests(root, NAMES, pool, memory, settled=0)
    read.clear()
    before = (root / "b").stat()
    match change:
        case "content" | "content and times":
            (root / "b").write_bytes(b"x" * 1000)
            if change == "content and times":  # the same size and time of writing; the inode's own time tells
                os.utime(root / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
        case "replaced":
            (root / "new").write_bytes(b"y" * 1000)
            os.utime(root / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
            os.replace(root / "new", root / "b")
        case "moved":
            (root / "b").rename(root / "d")
            (root / "a").rename(root / "b")
            (root / "d").rename(root / "a")
    assert list(content_digests(root, NAMES, pool, memory, settled=0)) == expected(root)
    assert set(read) == {"absent", *("ab" if change == "moved" else "b")}


def test_a_file_that_has_just_changed_is_not_remembered(
    root: Path, read: list[str], pool: ThreadPoolExecutor
) -> None:
    for _ in range(2):
        content_digests(root, ["a"], pool, root.parent / "digests.sqlite", settled=60)
    assert read == ["a", "a"]


@pytest.mark.parametrize("trouble", ["damaged", "other table", "a folder", "nowhere"])
def test_without_a_memory_files_are_read(root: Path, pool: ThreadPoolExecutor, trouble: str) -> None:
    memory = root.parent / "digests.sqlite"
    match trouble:
        case "damaged":
            memory.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
        case "other table":
            memory.write_bytes(b"")
        case "a folder":
            memory.mkdir()
        case "nowhere":
            memory = root / "a" / "digests.sqlite"
    for _ in range(2):
        assert list(content_digests(root, NAMES, pool, memory, settled=0)) == expected(root)


def test_files_go_through_in_windows(root: Path, read: list[str], pool: ThreadPoolExecutor) -> None:
    for _ in range(2):
        found = content_digests(root, NAMES, pool, root.parent / "digests.sqlite", window=2, settled=0)
        assert list(found) == expected(root)
    assert len(read) == 5
