"""Decoded pixels → normalised inputs of a model: the centre crop, or a randomly augmented image.

Shape legend: B batch, K canvas side, S image side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.data.sampling.random_operations import (
    DRAWS_PER_OPERATION,
    Amounts,
    drawn_amounts,
    erased,
    geometry,
    sharpened,
    toned,
)

DRAWS = 8  # random numbers per image and epoch
MOST_OPERATIONS = 4
_OPERATIONS = DRAWS_PER_OPERATION * MOST_OPERATIONS
EXTRA_DRAWS = _OPERATIONS + 1 + 5  # additional ones: for operations, sharpening and erasing
_CHUNK = 16  # images
Flip = bool | Literal["horizontal", "vertical"]


class Preprocess:
    """Decoded images (B, K, K, 3) uint8 → inputs (B, 3, S, S) float32, normalised, channels last.

    Without draws it returns the centre crop: the pixels themselves if it has S pixels to a side, else interpolated. With
    random numbers ``draws`` (B, DRAWS) each image is randomly cropped, shifted, rotated, flipped and changed in brightness
    and contrast; outside the image pixels are reflected. The arguments after ``colour`` need EXTRA_DRAWS more columns. All
    geometric changes are one interpolation.

    Args:
        image_size: S.
        mean, std: of each channel, in [0, 1].
        crop: side of the centre crop as a fraction of the side of the image; None for its S middle pixels.
        flip: flip left-right (``horizontal``), top-bottom (``vertical``) or both (True), each with probability 0.5.
        scale: range of the side of the random crop as a fraction of the side of the image.
        rotation: maximum rotation in degrees, in both directions.
        colour: maximum relative change of brightness and of contrast, in [0, 1).
        operations, magnitude: number of random operations per image (0 to 4), see `random_operations.LARGEST`, and their
            strength.
        sharpening: probability of doubling the sharpness.
        erasing: probability of erasing a rectangle.

    Attributes:
        extra_draws: number of columns of draws needed in addition to DRAWS.

    Raises:
        ValueError: draws with too few columns.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        crop: float | None = None,
        flip: Flip = False,
        scale: tuple[float, float] = (1.0, 1.0),
        rotation: float = 0.0,
        colour: float = 0.0,
        operations: int = 0,
        magnitude: float = 0.3,
        sharpening: float = 0.0,
        erasing: float = 0.0,
    ) -> None:
        self.image_size = image_size
        # Repeated to a whole row of pixels in memory, as a loop over channels alone is slow.
        self.mean = torch.tensor(mean).repeat(image_size)
        self.std = torch.tensor(std).repeat(image_size)
        self.crop = crop
        self.flips = torch.tensor([flip in {True, "horizontal"}, flip in {True, "vertical"}])
        self.scale = scale
        self.rotation = rotation
        self.colour = colour
        self.operations = operations
        self.magnitude = magnitude
        self.sharpening = sharpening
        self.erasing = erasing
        self.extra_draws = EXTRA_DRAWS if operations or sharpening or erasing else 0
        self._on_devices: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, pixels: Tensor, draws: Tensor | None = None) -> Tensor:
        side = self.image_size
        inputs = _empty((len(pixels), side, side, 3), pixels.device)
        if draws is None:
            self._take_centre(pixels, inputs)
        else:
            self._check(draws)
            for chunk in _chunks(pixels):
                moved = self._moved(pixels[chunk].permute(0, 3, 1, 2).float(), draws[chunk])
                moved = self._coloured(moved, draws[chunk, 6:8]) if self.colour else moved
                moved = self._changed(moved, draws[chunk, DRAWS:])
                inputs[chunk] = moved.permute(0, 2, 3, 1)
        rows = inputs.view(len(pixels), side, side * 3)
        mean, std, _ = self._constants(rows.device)
        rows.div_(255).sub_(mean).div_(std)
        return inputs.permute(0, 3, 1, 2)

    def _take_centre(self, pixels: Tensor, inputs: Tensor) -> None:
        side, canvas = self.image_size, pixels.shape[1]
        if self.crop is None or round(self.crop * canvas) == side:
            at = (canvas - side) // 2
            inputs.copy_(pixels[:, at : at + side, at : at + side])
            return
        theta = torch.eye(2, 3, device=pixels.device) * self.crop
        for chunk in _chunks(pixels):
            images = pixels[chunk].permute(0, 3, 1, 2).float()
            inputs[chunk] = self._sampled(images, theta.expand(len(images), 2, 3)).permute(0, 2, 3, 1)

    def _moved(self, images: Tensor, draws: Tensor) -> Tensor:
        low, high = self.scale
        side = low + (high - low) * draws[:, 0]
        turn = math.radians(self.rotation) * (2 * draws[:, 1] - 1)
        free = 1 - side
        flips = self._constants(draws.device)[2]
        mirror = torch.where((draws[:, 2:4] >= 0.5) & flips, -1.0, 1.0)
        shift = free[:, None] * (2 * draws[:, 4:6] - 1)
        cos, sin = side * turn.cos(), side * turn.sin()
        theta = torch.stack(
            [
                torch.stack([cos * mirror[:, 0], -sin * mirror[:, 1], shift[:, 0]], dim=1),
                torch.stack([sin * mirror[:, 0], cos * mirror[:, 1], shift[:, 1]], dim=1),
            ],
            dim=1,
        )
        if self.operations:
            theta = theta @ geometry(self._amounts(draws[:, DRAWS:]))
        return self._sampled(images, theta)

    def _sampled(self, images: Tensor, theta: Tensor) -> Tensor:
        """Interpolate images (B, 3, K, K) by affine maps (B, 2, 3) from S × S to K × K, both from -1 to 1."""
        grid = F.affine_grid(theta, [len(images), 3, self.image_size, self.image_size], align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _coloured(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change brightness (the mean of an image) and contrast (the distance from it): (B, 3, S, S) and draws (B, 2)."""
        brightness, contrast = (1 + self.colour * (2 * draws - 1)).view(-1, 2, 1, 1, 1).unbind(1)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return ((images - mean) * contrast + mean * brightness).clamp(0, 255)

    def _changed(self, images: Tensor, extra: Tensor) -> Tensor:
        """Random operations, sharpening and erasing of images (B, 3, S, S) by draws (B, EXTRA_DRAWS)."""
        sharpness = torch.zeros(len(images), device=images.device)
        if self.operations:
            amounts = self._amounts(extra)
            some = (amounts.brightness != 0) | (amounts.contrast != 0)
            images = _where(some, images, toned, amounts.brightness, amounts.contrast)
            sharpness = amounts.sharpness
        if self.sharpening:
            sharpness = sharpness + (extra[:, _OPERATIONS] < self.sharpening)
        if self.operations or self.sharpening:
            images = _where(sharpness != 0, images, sharpened, sharpness)
        if self.erasing:
            some = extra[:, _OPERATIONS + 1] < self.erasing
            images = _where(some, images, erased, extra[:, _OPERATIONS + 2 :])
        return images

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, std and flips on the device; cached, as each copy to a GPU synchronises."""
        if device not in self._on_devices:
            self._on_devices[device] = (self.mean.to(device), self.std.to(device), self.flips.to(device))
        return self._on_devices[device]

    def _amounts(self, extra: Tensor) -> Amounts:
        return drawn_amounts(extra[:, : DRAWS_PER_OPERATION * self.operations], self.magnitude)

    def _check(self, draws: Tensor) -> None:
        expected = DRAWS + self.extra_draws
        if draws.shape[1] < expected:
            raise ValueError(f"expected draws of shape (B, {expected}), got {tuple(draws.shape)}")


def _where(some: Tensor, images: Tensor, change: Callable[..., Tensor], *per_image: Tensor) -> Tensor:
    """Apply ``change`` to those images (B, 3, S, S) that ``some`` (B,) selects, with rows of ``per_image`` as arguments.

    On a CPU only these are computed, in place; on a GPU all are, as selecting would synchronise.
    """
    if images.device.type == "cpu":
        images[some] = change(images[some], *(values[some] for values in per_image))
        return images
    return torch.where(some.view(-1, 1, 1, 1), change(images, *per_image), images)


def _empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An uninitialised float32 tensor. NumPy requests huge pages and PyTorch does not: a third of the time on a CPU."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, device=device)


def _chunks(pixels: Tensor) -> list[slice]:
    """Slices of a batch that fit in the cache of a CPU; one slice on a GPU."""
    step = _CHUNK if pixels.device.type == "cpu" else max(len(pixels), 1)
    return [slice(start, start + step) for start in range(0, len(pixels), step)]
