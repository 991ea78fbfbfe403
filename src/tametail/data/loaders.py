"""Arrays → batches. The order of the images and what is done to each is a function of (seed, epoch, index) alone.

Shape legend: N rows of the whole array, B batch, S image side, K canvas side, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

DRAWS = 6  # random numbers each image gets per epoch


class Batch(NamedTuple):
    """inputs (B, ...), target (B,) class indices, draws (B, DRAWS) in [0, 1), all of one epoch."""

    inputs: Tensor
    target: Tensor
    draws: Tensor


class EpochOrder(Sampler[int]):
    """A permutation of n positions that depends on (seed, epoch) alone; `set_epoch` before each epoch."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _generator(self, purpose: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, self.epoch, purpose]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.n, generator=self._generator(0)).tolist())

    def draws(self) -> Tensor:
        """(n, DRAWS) uniform numbers of this epoch, by position."""
        return torch.rand(self.n, DRAWS, generator=self._generator(1))


class Rows(Dataset[Batch]):
    """Some rows of an array (features or decoded images, in memory or memory-mapped), with their targets."""

    def __init__(
        self,
        array: NDArray[np.generic],
        rows: NDArray[np.int64],
        target: NDArray[np.int64],
        order: EpochOrder,
    ) -> None:
        self.array = array
        self.rows = rows
        self.target = torch.from_numpy(target.astype(np.int64))
        self.order = order
        self._drawn = (-1, torch.empty(0))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        if self._drawn[0] != self.order.epoch:
            self._drawn = (self.order.epoch, self.order.draws())
        at = np.asarray(positions)
        inputs = torch.from_numpy(np.ascontiguousarray(self.array[self.rows[at]]))
        return Batch(inputs, self.target[at], self._drawn[1][at])


def training_batches(
    array: NDArray[np.generic],
    rows: NDArray[np.int64],
    target: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
) -> tuple[DataLoader[Batch], EpochOrder]:
    """Shuffled batches over ``rows``; a last batch of one image joins nobody and is left out of that epoch.

    (Batch normalisation has no variance to work with in a batch of one.)
    """
    order = EpochOrder(len(rows), seed)
    lonely = len(rows) > 1 and len(rows) % batch_size == 1
    loader = DataLoader(
        Rows(array, rows, target, order),
        batch_size=batch_size,
        sampler=order,
        drop_last=lonely,
        collate_fn=_as_is,
    )
    return loader, order


def _as_is(batch: Any) -> Batch:
    assert isinstance(batch, Batch)  # `Rows.__getitems__` has put it together already
    return batch


class Preprocess:
    """Decoded images (B, K, K, 3) uint8 → inputs (B, 3, S, S) float32, normalised, channels last.

    Without draws the centre is taken. With draws each image is scaled, shifted, turned and mirrored as its row
    of draws says; what falls outside the image is reflected.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        flip: bool = False,
        scale: tuple[float, float] = (1.0, 1.0),
        rotation: float = 0.0,
    ) -> None:
        self.image_size = image_size
        self.mean = torch.tensor(mean).view(1, 3, 1, 1)
        self.std = torch.tensor(std).view(1, 3, 1, 1)
        self.flip = flip
        self.scale = scale
        self.rotation = rotation

    def __call__(self, pixels: Tensor, draws: Tensor | None = None) -> Tensor:
        images = pixels.permute(0, 3, 1, 2)
        images = self._centre(images).float() if draws is None else self._moved(images.float(), draws)
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        return images.div(255).sub(mean).div(std).contiguous(memory_format=torch.channels_last)

    def _centre(self, images: Tensor) -> Tensor:
        margin = images.shape[-1] - self.image_size
        at = margin // 2
        return images[..., at : at + self.image_size, at : at + self.image_size]

    def _moved(self, images: Tensor, draws: Tensor) -> Tensor:
        low, high = self.scale
        side = low + (high - low) * draws[:, 0]
        turn = math.radians(self.rotation) * (2 * draws[:, 1] - 1)
        free = 1 - side
        mirror = torch.where(draws[:, 2:4] < 0.5, 1.0, -1.0) if self.flip else torch.ones_like(draws[:, 2:4])
        shift = free[:, None] * (2 * draws[:, 4:6] - 1)
        cos, sin = side * turn.cos(), side * turn.sin()
        theta = torch.stack(
            [
                torch.stack([cos * mirror[:, 0], -sin * mirror[:, 1], shift[:, 0]], dim=1),
                torch.stack([sin * mirror[:, 0], cos * mirror[:, 1], shift[:, 1]], dim=1),
            ],
            dim=1,
        )
        grid = F.affine_grid(theta, [len(images), 3, self.image_size, self.image_size], align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
