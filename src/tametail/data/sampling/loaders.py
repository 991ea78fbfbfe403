"""Rows → batches. Order and random numbers depend on (seed, epoch, index) alone.

Shape legend: N rows of the whole store, n rows of the training set, B batch.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tametail.core.arrays import IntArray
from tametail.core.errors import TametailError
from tametail.data.row_store import RowStore, as_rows
from tametail.data.sampling.augmentation import DRAWS
from tametail.data.sampling.label_samplers import make_label_order
from tametail.data.sampling.samplers import (
    EpochOrder,
    SamplerName,
    extra_draws,
    make_order,
    uniform_draws,
)


class Batch(NamedTuple):
    """Inputs (B, ...), target (B,) class indices or (B, C) labels, and draws (B, DRAWS or more) in [0, 1)."""

    inputs: Tensor
    target: Tensor
    draws: Tensor


class BatchIndex(NamedTuple):
    """Images of a batch (B,): positions in the training set, and numbers of their earlier occurrences in the epoch."""

    epoch: int
    positions: IntArray
    occurrences: IntArray


class ArrayDataset(Dataset[Batch]):
    """Some rows of features or decoded images, with their targets. It has no state of an epoch."""

    def __init__(
        self,
        array: RowStore | NDArray[Any],
        rows: IntArray,
        target: IntArray | NDArray[np.float32],
        seed: int,
        extra: int = 0,
    ) -> None:
        self.store = as_rows(array)
        self.rows = rows
        self.target = torch.from_numpy(
            np.require(target, np.int64 if target.ndim == 1 else np.float32, ["C", "W"])
        )
        self.seed = seed
        self.extra = extra

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: BatchIndex) -> Batch:
        at = index.positions
        # Repeated within an epoch, an image gets other draws.
        counters = at + len(self) * index.occurrences
        draws = uniform_draws(self.seed, index.epoch, counters, DRAWS)
        if self.extra:
            more = extra_draws(self.seed, index.epoch, counters, self.extra)
            draws = np.concatenate([draws, more], axis=1)
        inputs = torch.from_numpy(self.store.take(self.rows[at]))
        return Batch(inputs, self.target[at], torch.from_numpy(draws))


class DistributedBatches(Sampler[BatchIndex]):
    """Sampler of the batches of one process of several; together they have every image exactly once.

    A process without images in a batch gets its first ones anyway; `TrainingBatches.share` is then 0.
    """

    def __init__(self, order: EpochOrder, batch_size: int, rank: int, world: int) -> None:
        self.order = order
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.epoch, self.first = 0, 0
        # A last batch of one image is dropped: batch normalisation would have no variance.
        dropped = len(order) > 1 and len(order) % batch_size == 1
        self.images = len(order) - dropped

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size) - self.first

    def __iter__(self) -> Iterator[BatchIndex]:
        epoch, positions = self.epoch, self.order.positions(self.epoch)
        earlier = self.order.occurrences(epoch, positions)
        for start in range(self.first * self.batch_size, self.images, self.batch_size):
            size = min(self.batch_size, self.images - start)
            own = start + np.array(self.own(size) or range(min(size, 2)))
            yield BatchIndex(epoch, positions[own], earlier[own])

    def own(self, size: int) -> range:
        """Positions in a batch of the images of this process: at least two for each process that has any."""
        sharing = max(min(self.world, size // 2), 1)
        return range(self.rank, size if self.rank < sharing else 0, sharing)


class TrainingBatches:
    """Batches of the training set, epoch by epoch, from any step on; ``steps`` per epoch."""

    def __init__(self, loader: DataLoader[Batch], batches: DistributedBatches) -> None:
        self._loader = loader
        self._batches = batches
        self.steps = math.ceil(batches.images / batches.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (counted from 0), from step ``first`` on."""
        self._batches.epoch, self._batches.first = epoch, first
        return iter(self._loader)

    def share(self, step: int) -> float:
        """Fraction of the images of a step that this process has; the sum over all processes is 1."""
        return len(self._batches.own(self.size(step))) / self.size(step)

    def size(self, step: int) -> int:
        """Number of images of a step, of all processes together."""
        return min(self._batches.batch_size, self._batches.images - step * self._batches.batch_size)

    def positions(self, epoch: int, step: int) -> IntArray:
        """Positions of the images of a step in the training set, of all processes together."""
        start = step * self._batches.batch_size
        return self.order(epoch)[start : start + self.size(step)]

    def order(self, epoch: int) -> IntArray:
        """Positions of all images of an epoch in the training set, in order."""
        return self._batches.order.positions(epoch)[: self._batches.images]


@contextmanager
def explain_lost_workers() -> Iterator[None]:
    """Raise the loss of a data-loading worker process as an error with advice.

    Raises:
        TametailError: a worker was killed.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # PyTorch's error may be lost in a callback; then the pipe to the worker breaks.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise TametailError(
            "a data-loading worker process was killed, perhaps because memory ran out; repeat the command with fewer "
            "--workers to resume"
        ) from error


def training_batches(
    array: RowStore | NDArray[Any],
    rows: IntArray,
    target: IntArray | NDArray[np.float32],
    *,
    batch_size: int,
    seed: int,
    sampler: SamplerName = "shuffled",
    epochs: int | None = None,
    deferred_from: float = 0.8,
    extra: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> TrainingBatches:
    """Batches of the training set; a last batch of one image is dropped.

    Args:
        array: (N, ...) features or images.
        rows: (n,) rows of the training set.
        target: (n,) classes, or (n, C) labels.
        batch_size: B, of all processes together.
        seed: of order and draws.
        sampler, epochs, deferred_from: see `make_order`, and for labels `make_label_order`.
        extra: number of random numbers per image in addition to `DRAWS`.
        rank, world: index and number of the processes.
        workers: number of data-loading worker processes; the batches do not depend on it.
        pin_memory: see `torch.utils.data.DataLoader`.
    """
    if target.ndim == 2:
        order = make_label_order(sampler, target, seed=seed, epochs=epochs, deferred_from=deferred_from)
    else:
        classes = np.asarray(target, np.int64)
        order = make_order(sampler, classes, seed=seed, epochs=epochs, deferred_from=deferred_from)
    sampled = DistributedBatches(order, batch_size, rank, world)
    loader = DataLoader(
        ArrayDataset(array, rows, target, seed, extra),
        sampler=sampled,
        batch_size=None,  # each index is that of a whole batch
        collate_fn=_collated,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_ignore_first_signal if workers else None,
        pin_memory=pin_memory,
    )
    return TrainingBatches(loader, sampled)


def _ignore_first_signal(_: int) -> None:
    """A signal to stop the training often reaches its workers too, whose batches it needs until it has saved."""

    def ignore_once(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_once)


def _collated(batch: Any) -> Any:
    return batch  # by `ArrayDataset.__getitem__`
