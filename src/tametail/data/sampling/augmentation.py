"""Decoded pixels → normalised inputs of a model: the centre crop, or a randomly augmented image.

The random operations are those of RandAugment (Cubuk, Zoph, Shlens & Le, NeurIPS 2020) that preserve the diagnosis. Left
out are saturation and hue (stains, haemorrhage, skin), solarise, posterise, invert, equalise and autocontrast (densities)
and cutout (a lesion of a few pixels). Deviation: the strength is uniform up to ``magnitude`` in both directions.

Shape legend: B batch, K canvas side, S image side, P operations per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

DRAWS = 8  # random numbers per image and epoch
DRAWS_PER_OPERATION = 2  # which one, and how strong
MOST_OPERATIONS = 4
_OPERATIONS = DRAWS_PER_OPERATION * MOST_OPERATIONS
EXTRA_DRAWS = _OPERATIONS + 1 + 5  # additional ones: for operations, sharpening and erasing
LARGEST = {
    "rotate": math.radians(45),  # radians
    "shear_x": 0.3,  # relative to the distance from the centre
    "shear_y": 0.3,
    "shift_x": 0.2,  # relative to the side of the image
    "shift_y": 0.2,
    "zoom": math.log(1.3),  # logarithm of the factor
    "brightness": 0.2,  # relative
    "contrast": 0.3,
    "sharpness": 1.0,  # 1 doubles the difference from the smoothed image, -1 removes it
}
"""Maximum change of each operation at magnitude 1, in both directions."""
_SMOOTHING = 9 / 13  # weight of the 3×3 mean in Pillow's SMOOTH, where the centre counts five times
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
        operations, magnitude: number of random operations per image (0 to 4), see `LARGEST`, and their strength.
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
            expected = DRAWS + self.extra_draws
            if draws.shape[1] < expected:
                raise ValueError(f"expected draws of shape (B, {expected}), got {tuple(draws.shape)}")
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
        flips = self._constants(draws.device)[2]
        mirror = torch.where((draws[:, 2:4] >= 0.5) & flips, -1.0, 1.0)
        shift = (1 - side)[:, None] * (2 * draws[:, 4:6] - 1)
        cos, sin = side * turn.cos(), side * turn.sin()
        across = torch.stack([cos * mirror[:, 0], -sin * mirror[:, 1], shift[:, 0]], dim=1)
        down = torch.stack([sin * mirror[:, 0], cos * mirror[:, 1], shift[:, 1]], dim=1)
        theta = torch.stack([across, down], dim=1)
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


class Amounts(NamedTuple):
    """Strength of the operations, 0 for none: (B, P) for geometry, in their order, and (B,) for the others."""

    rotate: Tensor
    shear_x: Tensor
    shear_y: Tensor
    shift_x: Tensor
    shift_y: Tensor
    zoom: Tensor
    brightness: Tensor
    contrast: Tensor
    sharpness: Tensor


def drawn_amounts(draws: Tensor, magnitude: float) -> Amounts:
    """Random operations and their strength, from ``draws`` (B, 2 P) in [0, 1), the kind and strength of each."""
    which = (draws[:, 0::2] * len(LARGEST)).long()
    strength = magnitude * (2 * draws[:, 1::2] - 1)
    amounts = [
        torch.where(which == kind, strength * largest, 0.0) for kind, largest in enumerate(LARGEST.values())
    ]
    return Amounts(*amounts[:6], *(amount.sum(dim=1) for amount in amounts[6:]))


def geometry(amounts: Amounts) -> Tensor:
    """(B, 3, 3) maps from coordinates of the output, from -1 to 1, to those of the input."""
    cos, sin = amounts.rotate.cos(), amounts.rotate.sin()
    zoom = (-amounts.zoom).exp()
    zero, one = torch.zeros_like(zoom), torch.ones_like(zoom)
    rows = [
        torch.stack([zoom * cos, amounts.shear_x - sin, 2 * amounts.shift_x], dim=-1),
        torch.stack([amounts.shear_y + sin, zoom * cos, 2 * amounts.shift_y], dim=-1),
        torch.stack([zero, zero, one], dim=-1),
    ]
    each = torch.stack(rows, dim=-2)  # of one kind each: the terms of the others are neutral
    whole = each[:, 0]
    for operation in each.unbind(1)[1:]:
        whole = whole @ operation
    return whole


def toned(images: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Scale contrast, then brightness of images (B, 3, S, S) in [0, 255] by 1 + (B,).

    Contrast is the distance from the mean of each channel, not from the mean grey as in Pillow, so that hue and saturation
    of the mean stay the same.
    """
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (((images - mean) * _each(1 + contrast) + mean) * _each(1 + brightness)).clamp(0, 255)


def sharpened(images: Tensor, sharpness: Tensor) -> Tensor:
    """Sharpen images (B, 3, S, S) in [0, 255]: add (B,) times the difference from the smoothed image."""
    smooth = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return (images + (images - smooth) * _each(_SMOOTHING * sharpness)).clamp(0, 255)


def erased(images: Tensor, draws: Tensor) -> Tensor:
    """Random erasing of a black rectangle in images (B, 3, S, S): Zhong, Zhong, Kang, Li & Yang (AAAI 2020).

    The area is 2 to 33 % of the image and the aspect ratio 0.3 to 3.3, as in torchvision's RandomErasing; longer sides are
    clipped.

    Args:
        draws: (B, 4) in [0, 1): area, aspect ratio, and position.
    """
    area = 0.02 + 0.31 * draws[:, 0]
    aspect = torch.exp(math.log(0.3) + math.log(11) * draws[:, 1])
    inside = []
    for length, place in ((area * aspect, draws[:, 2]), (area / aspect, draws[:, 3])):
        side = length.sqrt().clamp(max=1)
        start = (1 - side) * place
        middles = (torch.arange(images.shape[-1], device=images.device) + 0.5) / images.shape[-1]
        inside.append((middles >= start[:, None]) & (middles < (start + side)[:, None]))
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
