from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tametail.core.errors import TametailError
from tametail.data import row_store
from tametail.data.row_store import as_rows, row_blocks
from tametail.training import large_tensors
from tametail.training.large_tensors import RowBlocks, join_blocks, to_device

FEATURES = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


@pytest.fixture(params=[2**30, 0], ids=["memory", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Blocks of seven rows, whose tensor is in memory or in a file."""
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(row_store, "BLOCK_BYTES", 7 * 6 * 4)
    monkeypatch.setattr(large_tensors, "IN_MEMORY_BYTES", request.param)
    return tmp_path / "cache"


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 50])
def test_blocks_cover_all_rows_once(rows: int, cache: Path) -> None:
    blocks = row_blocks(rows, 6)
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(rows))
    assert all(block.stop - block.start <= 7 for block in blocks)
    assert len(blocks) == max(-(-rows // 7), 1)
    assert row_blocks(3, 10**9) == [slice(0, 1), slice(1, 2), slice(2, 3)]


@pytest.mark.parametrize("rows", [np.arange(50)[::-1], np.array([3, 3, 9]), np.arange(0)])
def test_rows_of_a_store_come_in_blocks_as_often_as_wanted(rows: NDArray[np.int64], cache: Path) -> None:
    blocks = RowBlocks(as_rows(FEATURES), rows)
    for _ in range(2):
        assert np.array_equal(torch.cat(list(blocks)).numpy(), FEATURES[rows])
    joined = blocks.joined()
    assert np.array_equal(joined.numpy(), FEATURES[rows])
    assert joined.dtype == torch.float32


def test_a_file_has_no_name_and_can_be_computed_with(cache: Path) -> None:
    joined = join_blocks(row_blocks(50, 6), lambda block: 2 * torch.from_numpy(FEATURES[block]))
    assert list(cache.rglob("*")) == []
    joined += 1
    assert np.array_equal(joined.numpy(), 2 * FEATURES + 1)
    assert np.allclose((joined.T @ joined).numpy(), joined.numpy().T @ joined.numpy(), rtol=1e-5)


def test_a_full_disk_is_an_error_before_anything_is_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(large_tensors, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(TametailError, match=r"no space left .* TAMETAIL_CACHE"):
        join_blocks(row_blocks(50, 6), lambda block: torch.zeros(block.stop - block.start, 6))


def test_one_block_is_not_copied(cache: Path) -> None:
    whole = torch.from_numpy(FEATURES[:5])
    assert join_blocks([slice(0, 5)], lambda block: whole) is whole
    assert to_device(whole, torch.device("cpu")) is whole
