"""Features that may be larger than memory, as tensors: read and computed by blocks of rows, and large results in a file.

Shape legend: N rows of a store, n rows that are taken, D features.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tametail.core.arrays import IntArray
from tametail.core.atomic import make_folder
from tametail.data import RowStore, cache_dir
from tametail.data.decoding.cache_folder import explain_cache_error
from tametail.data.row_store import row_blocks

IN_MEMORY_BYTES = 2**29
"""Most bytes of features in a tensor that is held in memory."""
_DEVICE_SHARE = 0.25  # of a GPU's free memory, up to which features are moved there as a whole


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """Some rows (n,) of features (N, D), block by block as tensors; may be iterated over several times."""

    store: RowStore
    rows: IntArray

    def __iter__(self) -> Iterator[Tensor]:
        return map(self._read, self._blocks)

    def joined(self, then: Callable[[Tensor], Tensor] = lambda block: block) -> Tensor:
        """All of them as one tensor, after a function for which each row is by itself; see `join_blocks`."""
        return join_blocks(self._blocks, lambda block: then(self._read(block)))

    @property
    def _blocks(self) -> list[slice]:
        return row_blocks(len(self.rows), self.store.shape[1])

    def _read(self, block: slice) -> Tensor:
        return torch.from_numpy(self.store.take(self.rows[block]))


def join_blocks(blocks: Sequence[slice], compute: Callable[[slice], Tensor]) -> Tensor:
    """One float32 tensor of what ``compute`` gives for consecutive blocks of rows: in memory, or, if large, in a file.

    The file is in the cache folder, has no name, and ends with the tensor or the process.

    Raises:
        TametailError: the cache folder cannot be written or is full.
    """
    first = compute(blocks[0])
    if len(blocks) == 1:
        return first
    joined = _empty((blocks[-1].stop, *first.shape[1:]))
    joined[blocks[0]] = first
    for block in blocks[1:]:
        joined[block] = compute(block)
    return joined


def _empty(shape: tuple[int, ...]) -> Tensor:
    needed = 4 * int(np.prod(shape))
    if needed <= IN_MEMORY_BYTES:
        return torch.empty(shape)
    folder = cache_dir()
    with explain_cache_error(folder):
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:  # the mapping outlives the file's name and handle
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later would kill the process
                os.posix_fallocate(file.fileno(), 0, needed)
            else:
                file.truncate(needed)
            return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))


def to_device(features: Tensor, device: torch.device) -> Tensor:
    """Features on a device; those that would fill a GPU stay where they are, and are moved there block by block."""
    if device.type == "cuda" and features.nbytes > _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return features
    return features.to(device)
