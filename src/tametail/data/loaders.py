"""Arrays → batches. The order of the images and what is drawn for each is a function of (seed, epoch, index) alone.

Shape legend: N rows of the whole array, n rows of the training part, B batch.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tametail.data.augmentation import DRAWS
from tametail.data.samplers import EpochOrder, Pick, SamplerName, make_order, uniform_draws


class Batch(NamedTuple):
    """inputs (B, ...), target (B,) class indices, draws (B, DRAWS) in [0, 1), all of one epoch."""

    inputs: Tensor
    target: Tensor
    draws: Tensor


class Rows(Dataset[Batch]):
    """Some rows of an array (features or decoded images, in memory or memory-mapped), with their targets.

    It keeps nothing of an epoch: copies in other processes give the same batches. A memory-mapped array goes to them
    by the name of its file, so that they share its pages and none copies it.
    """

    def __init__(
        self, array: NDArray[np.generic], rows: NDArray[np.int64], target: NDArray[np.int64], seed: int
    ) -> None:
        self.array = array
        self.rows = rows
        self.target = torch.from_numpy(target.astype(np.int64))
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, picks: Sequence[Pick]) -> Batch:
        at = np.array([pick.position for pick in picks])
        # Shown again within an epoch, an image gets other draws.
        counters = at + len(self) * np.array([pick.occurrence for pick in picks])
        draws = uniform_draws(self.seed, picks[0].epoch, counters, DRAWS)
        inputs = torch.from_numpy(np.ascontiguousarray(self.array[self.rows[at]]))
        return Batch(inputs, self.target[at], torch.from_numpy(draws))

    def __getstate__(self) -> dict[str, Any]:
        array = self.array
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename:
            return self.__dict__ | {
                "array": _Mapped(str(array.filename), array.dtype, array.shape, array.offset)
            }
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        array = state["array"]
        self.__dict__.update(state | {"array": array.open() if isinstance(array, _Mapped) else array})


class _Mapped(NamedTuple):
    """A memory-mapped array in row order, by its file."""

    file: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def open(self) -> NDArray[Any]:
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)


def training_batches(
    array: NDArray[np.generic],
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    sampler: SamplerName = "shuffled",
    epochs: int | None = None,
    workers: int = 0,
    pin_memory: bool = False,
) -> tuple[DataLoader[Batch], EpochOrder]:
    """Batches over ``rows``; a last batch of one image joins nobody and is left out of that epoch.

    (Batch normalisation has no variance to work with in a batch of one.)

    Args:
        array: (N, ...) features or images.
        rows: (n,) the training part.
        target: (n,) their classes.
        batch_size: B.
        seed: of order and draws.
        sampler, epochs: see `make_order`.
        workers: processes that read ahead; the batches are the same for any number.
        pin_memory: put batches where a GPU copies them from without waiting.

    Returns:
        The loader, and the order whose `set_epoch` is called before each epoch.
    """
    order = make_order(sampler, target, seed=seed, epochs=epochs)
    lonely = len(rows) > 1 and len(rows) % batch_size == 1
    loader = DataLoader(
        Rows(array, rows, target, seed),
        batch_size=batch_size,
        sampler=order,
        drop_last=lonely,
        collate_fn=_as_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )
    return loader, order


def _as_is(batch: Any) -> Batch:
    assert isinstance(batch, Batch)  # `Rows.__getitems__` has put it together already
    return batch
