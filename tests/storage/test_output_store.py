"""Outputs of trainings are used again only as they were written, for what they were made with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tametail.core.errors import TametailError
from tametail.core.processes import machine
from tametail.storage.locks import STALE_SECONDS, Lock, files_of
from tametail.storage.output_store import OutputStore

ARRAYS = {"logits": np.arange(6, dtype=np.float32).reshape(2, 3).T, "fold": np.array([1, 2, 3])}
NOTED = {"failures": {"alpa": "é"}, "names": ["ce", "a"]}


@pytest.fixture
def store(tmp_path: Path) -> OutputStore:
    found = OutputStore(tmp_path / "outputs")
    found.save("one", "made", ARRAYS, NOTED)
    return found


def test_what_was_saved_is_loaded(store: OutputStore) -> None:
    loaded = store.load("one", "made")
    assert loaded is not None
    arrays, noted = loaded
    assert noted == NOTED
    assert arrays.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name], values)


def test_the_same_outputs_are_the_same_bytes(store: OutputStore) -> None:
    before = store.path("one").read_bytes()
    store.save("one", "made", dict(reversed(ARRAYS.items())), NOTED)
    assert store.path("one").read_bytes() == before


def test_what_is_absent_or_of_something_else_is_not_used(store: OutputStore) -> None:
    assert store.load("two", "made") is None
    assert store.load("one", "otherwise") is None
    os.mkfifo(store.path("pipe"))
    assert store.load("pipe", "made") is None


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_no_changed_byte_goes_unnoticed(store: OutputStore, place: float) -> None:
    path = store.path("one")
    content = bytearray(path.read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    assert store.load("one", "made") is None


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64])
def test_damaged_files_are_not_used(store: OutputStore, content: bytes) -> None:
    store.path("one").write_bytes(content)
    assert store.load("one", "made") is None


def test_one_process_claims_a_training(store: OutputStore) -> None:
    with store.claimed("two") as first, store.claimed("two") as second, store.claimed("three") as other:
        assert (first, second, other) == (True, False, True)
    with store.claimed("two") as again:
        assert again
    assert [path.name for path in store.folder.iterdir()] == ["one.safetensors"]


def test_what_a_lost_machine_holds_is_claimed_from_it(store: OutputStore) -> None:
    """As on a file system without flock, where the mark of a killed process stays."""
    lock = Lock(store.folder / ".two.lock")
    assert lock.try_acquire()
    record = files_of(lock.path)[0]
    record.write_text(record.read_text().replace(machine(), "0" * 8), encoding="utf-8")
    with store.claimed("two") as taken:
        assert not taken, "it has just given a sign of life"
    old = record.stat().st_mtime - 2 * STALE_SECONDS
    os.utime(record, (old, old))
    with store.claimed("two") as taken:
        assert taken
    lock.release()
    assert [path.name for path in store.folder.iterdir()] == ["one.safetensors"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TametailError, match="cannot be written"):
        OutputStore(tmp_path / "file" / "outputs").save("one", "made", ARRAYS)
