"""Mixing of images and labels within a batch.

mixup: Zhang et al., ICLR 2018. cutmix: Yun et al., ICCV 2019. remix: Chou et al., ECCV workshops 2020.
Shape legend: B batch, C classes; inputs are images (B, 3, H, W) or features (B, D).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MixingKind = Literal["mixup", "cutmix", "remix"]
REMIX_KAPPA, REMIX_TAU = 3.0, 0.5  # the values of the paper's experiments
_MIXING = 3  # separates these random numbers from those of `samplers`


class Mix(NamedTuple):
    """How a batch is mixed.

    Attributes:
        share: λ in [0, 1], the weight of each image.
        partner: (B,) int64, the image with the weight 1-λ.
        centre: of the box of cutmix, as fractions of height and width.
    """

    share: float
    partner: Tensor
    centre: tuple[float, float] = (0.5, 0.5)


def mixup(inputs: Tensor, target: Tensor, classes: int, mix: Mix) -> tuple[Tensor, Tensor]:
    """x = λ x_i + (1-λ) x_j, and the same for the labels.

    Args:
        inputs: (B, ...) float.
        target: (B,) class indices, or (B, C) labels.
        classes: C.

    Returns:
        Inputs of the same shape and soft targets (B, C) float32; of class indices their rows sum to 1.
    """
    own = _labels(target, classes)
    return _blended(inputs, mix), torch.lerp(own[mix.partner], own, mix.share)


def cutmix(inputs: Tensor, target: Tensor, classes: int, mix: Mix) -> tuple[Tensor, Tensor]:
    """Replace a box of the fraction 1-λ of the image by that of the partner; labels are weighted by area.

    As in the released code the box is clipped at the border, and λ is then computed from its area.

    Raises:
        ValueError: inputs that are not (B, 3, H, W).
    """
    if inputs.ndim != 4:
        raise ValueError(f"expected images (B, 3, H, W) for cutmix, got shape {tuple(inputs.shape)}")
    height, width = inputs.shape[2:]
    side = math.sqrt(1 - mix.share)
    top, bottom = _span(mix.centre[0], side, height)
    left, right = _span(mix.centre[1], side, width)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = inputs[mix.partner, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    own = _labels(target, classes)
    return mixed, torch.lerp(own[mix.partner], own, share)


def remix(inputs: Tensor, target: Tensor, class_counts: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Images as in mixup; the label is that of the much rarer class if the weight of its image is large enough.

    With n the class counts: the label is j's where n_i / n_j >= κ and λ < τ, i's where n_i / n_j <= 1/κ and
    1-λ < τ, and mixed by λ elsewhere (equation 8; κ = 3, τ = 0.5). With equal counts it is mixup.

    Args:
        class_counts: (C,) training images per class.
    """
    counts = class_counts.to(target.device).clamp(min=1)
    ratio = counts[target] / counts[target[mix.partner]]
    share = torch.full_like(ratio, mix.share)
    if mix.share < REMIX_TAU:
        share[ratio >= REMIX_KAPPA] = 0.0
    if 1 - mix.share < REMIX_TAU:
        share[ratio <= 1 / REMIX_KAPPA] = 1.0
    own = _labels(target, len(counts))
    return _blended(inputs, mix), torch.lerp(own[mix.partner], own, share[:, None])


class BatchMixing:
    """Mixes a batch, determined by (seed, epoch, step) and the batch.

    One λ and one permutation per batch, as in the released code.

    Args:
        kind: ``mixup``, ``cutmix`` or ``remix``.
        alpha: λ is drawn from Beta(alpha, alpha).
        probability: of mixing a batch.
        class_counts: C training images per class.
    """

    def __init__(
        self, kind: MixingKind, *, alpha: float, probability: float, class_counts: Sequence[int], seed: int
    ) -> None:
        if kind not in get_args(MixingKind):
            raise ValueError(f"expected a kind of {get_args(MixingKind)}, got {kind!r}")
        self.kind = kind
        self.alpha = alpha
        self.probability = probability
        self.class_counts = torch.tensor(class_counts, dtype=torch.float32)
        self.seed = seed

    def __call__(self, inputs: Tensor, target: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and soft targets (B, C) float32; the target stays (B,) if the batch is not mixed."""
        mix = self.draw(len(target), epoch, step)
        if mix is None:
            return inputs, target
        mix = mix._replace(partner=mix.partner.to(target.device))
        if self.kind == "remix":
            return remix(inputs, target, self.class_counts, mix)
        mixed = mixup if self.kind == "mixup" else cutmix
        return mixed(inputs, target, len(self.class_counts), mix)

    def draw(self, batch: int, epoch: int, step: int) -> Mix | None:
        """The random mix of a step; None if the batch is not mixed."""
        random = np.random.default_rng([self.seed, epoch, _MIXING, step])
        if random.random() >= self.probability:
            return None
        share = float(random.beta(self.alpha, self.alpha))
        centre = (random.random(), random.random())
        return Mix(share, torch.from_numpy(random.permutation(batch)), centre)


def _labels(target: Tensor, classes: int) -> Tensor:
    return target.float() if target.ndim == 2 else F.one_hot(target, classes).float()


def _blended(inputs: Tensor, mix: Mix) -> Tensor:
    return torch.lerp(inputs[mix.partner], inputs, mix.share)


def _span(centre: float, side: float, length: int) -> tuple[int, int]:
    """Bounds in pixels of a box with ``side`` as a fraction of the length, clipped at the border."""
    half = round(side * length) // 2
    middle = int(centre * length)
    return max(middle - half, 0), min(middle + half, length)
