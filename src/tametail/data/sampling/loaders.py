"""Arrays → batches. The order of the images and what is drawn for each is a function of (seed, epoch, index) alone.

Shape legend: N rows of the whole array, n rows of the training set, B batch.
"""

from __future__ import annotations

import math
import mmap
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tametail.core.errors import TametailError
from tametail.data.sampling.augmentation import DRAWS
from tametail.data.sampling.samplers import (
    EpochOrder,
    Pick,
    SamplerName,
    extra_draws,
    make_order,
    uniform_draws,
)


class Batch(NamedTuple):
    """inputs (B, ...), target (B,) class indices or (B, C) labels, draws (B, DRAWS or more) in [0, 1), of one epoch."""

    inputs: Tensor
    target: Tensor
    draws: Tensor


class Rows(Dataset[Batch]):
    """Some rows of an array (features or decoded images, in memory or memory-mapped), with their targets.

    It keeps nothing of an epoch: copies in other processes give the same batches. A memory-mapped array goes to them
    by the name of its file, so that they share its pages and none copies it.
    """

    def __init__(
        self,
        array: NDArray[np.generic],
        rows: NDArray[np.int64],
        target: NDArray[np.int64] | NDArray[np.float32],
        seed: int,
        extra: int = 0,
    ) -> None:
        self.array = array
        self.rows = rows
        self.target = torch.from_numpy(target.astype(np.int64 if target.ndim == 1 else np.float32))
        self.seed = seed
        self.extra = extra

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, picks: Sequence[Pick]) -> Batch:
        at = np.array([pick.position for pick in picks])
        # Shown again within an epoch, an image gets other draws.
        counters = at + len(self) * np.array([pick.occurrence for pick in picks])
        draws = uniform_draws(self.seed, picks[0].epoch, counters, DRAWS)
        if self.extra:
            more = extra_draws(self.seed, picks[0].epoch, counters, self.extra)
            draws = np.concatenate([draws, more], axis=1)
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


class BatchShares(Sampler[list[Pick]]):
    """The batches of an epoch, or one process's share of each: together the processes have every pick exactly once.

    A process for which a batch holds nothing gets the batch's first picks all the same, since all processes must take
    every step together; `TrainingBatches.share` says that they count for nothing.
    """

    def __init__(self, order: EpochOrder, batch_size: int, rank: int, world: int) -> None:
        self.order = order
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.first = 0
        # A last batch of one image joins nobody: batch normalisation has no variance to work with.
        lonely = len(order) > 1 and len(order) % batch_size == 1
        self.images = len(order) - lonely

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size) - self.first

    def __iter__(self) -> Iterator[list[Pick]]:
        picks = list(self.order)[: self.images]
        for start in range(self.first * self.batch_size, self.images, self.batch_size):
            batch = picks[start : start + self.batch_size]
            own = self.own(len(batch))
            yield [batch[at] for at in own] or batch[:2]

    def own(self, size: int) -> range:
        """Which images of a batch are this process's: at least two for each process that has any."""
        sharing = max(min(self.world, size // 2), 1)
        return range(self.rank, size if self.rank < sharing else 0, sharing)


class TrainingBatches:
    """Batches over some rows of an array, epoch by epoch, from any step on.

    Attributes:
        steps: batches in an epoch.
    """

    def __init__(self, loader: DataLoader[Batch], shares: BatchShares) -> None:
        self._loader = loader
        self._shares = shares
        self.steps = math.ceil(shares.images / shares.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0), or of its rest from step ``first`` on."""
        self._shares.order.set_epoch(epoch)
        self._shares.first = first
        return iter(self._loader)

    def share(self, step: int) -> float:
        """Share of the images of a step that this process has; they sum to 1 over all processes."""
        return len(self._shares.own(self.size(step))) / self.size(step)

    def size(self, step: int) -> int:
        """Images of a step of an epoch, those of all processes."""
        return min(self._shares.batch_size, self._shares.images - step * self._shares.batch_size)

    def positions(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Positions among the rows of the images of a step, those of all processes."""
        start = step * self._shares.batch_size
        return self.order(epoch)[start : start + self.size(step)]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Positions among the rows of all images of an epoch, in the order in which they are shown."""
        return self._shares.order.positions(epoch)[: self._shares.images]


@contextmanager
def telling_of_lost_readers() -> Iterator[None]:
    """A process that reads batches ahead and was ended from outside, told as an error that says what to do.

    torch notices the end at once and raises wherever the training happens to be, not only where a batch is asked for.

    Raises:
        TametailError: such a process was ended.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # What torch raises may be lost in a callback; then the pipe to the process is what breaks.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise TametailError(
            "a process that reads batches ahead was ended from outside, perhaps as memory was short; repeat the "
            "command to go on, with fewer --workers"
        ) from error


def training_batches(
    array: NDArray[np.generic],
    rows: NDArray[np.int64],
    target: NDArray[np.int64] | NDArray[np.float32],
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
    """Batches over ``rows``; a last batch of one image is left out of its epoch.

    Args:
        array: (N, ...) features or images.
        rows: (n,) the training set.
        target: (n,) their classes, or (n, C) their labels.
        batch_size: B, of all processes together.
        seed: of order and draws.
        sampler, epochs, deferred_from: see `make_order`.
        extra: how many random numbers an image gets beyond `DRAWS`.
        rank, world: which of how many processes takes its share of each batch.
        workers: processes that read ahead; the batches are the same for any number.
        pin_memory: put batches where a GPU copies them from without waiting.
    """
    classes = np.zeros(len(target), np.int64) if target.ndim == 2 else target.astype(np.int64)
    order = make_order(sampler, classes, seed=seed, epochs=epochs, deferred_from=deferred_from)
    shares = BatchShares(order, batch_size, rank, world)
    loader = DataLoader(
        Rows(array, rows, target, seed, extra),
        batch_sampler=shares,
        collate_fn=_as_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_outlive_the_first_request if workers else None,
        pin_memory=pin_memory,
    )
    return TrainingBatches(loader, shares)


def _outlive_the_first_request(_: int) -> None:
    """Whoever asks the training to stop often asks its readers too, and it needs their batches until it has saved."""

    def ignore_once(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_once)


def _as_is(batch: Any) -> Batch:
    assert isinstance(batch, Batch)  # `Rows.__getitems__` has put it together already
    return batch
