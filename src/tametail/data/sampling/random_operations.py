"""Random operations that preserve the diagnosis: RandAugment of geometry, brightness, contrast and sharpness.

Cubuk, Zoph, Shlens & Le (NeurIPS 2020) apply some of fourteen random operations to each image at one strength. Operations
that may change the diagnosis are excluded: saturation and hue (stains, haemorrhage, skin), solarise, posterise, invert,
equalise and autocontrast (densities), cutout (a lesion of a few pixels). Deviation: the strength is uniform up to
``magnitude`` in both directions; their comparison of schedules found little difference.

Shape legend: B batch, S image side, P operations per image, K kinds of operations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

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
DRAWS_PER_OPERATION = 2  # which one, and how strong
_SMOOTHING = 9 / 13  # weight of the 3×3 mean in Pillow's SMOOTH, where the centre counts five times


class Amounts(NamedTuple):
    """Strength of the operations: (B, P) for geometry, in the order of the operations, and (B,) for the others.

    0 changes nothing.
    """

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
    """Random operations and their strength.

    Args:
        draws: (B, 2 P) in [0, 1): kind and strength of each operation.
        magnitude: in (0, 1].
    """
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

    Contrast is the distance from the mean of each channel, and brightness scales all channels equally, so that the mean
    of the image keeps its hue and saturation. (Pillow uses the mean grey, so that less contrast is less colour.)
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
