"""Classifiers of three kinds on the features of a backbone, and the scaling of frozen features. torch alone.

Shape legend: B batch, N images, C classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tametail.losses.base import LossHead
from tametail.losses.ldam import NormalisedLinear, cosines

Head = Literal["linear", "normalised", "cosine"]
_NO_VARIANCE = 1e-10  # of a block, relative to the largest
COSINE_SCALE = 16.0  # initial scale of the cosine head


def build_head(kind: Head, features: int, classes: int) -> nn.Module:
    """Build a classifier from features (B, D) to outputs (B, C).

    ``linear`` returns logits, ``normalised`` cosines (for losses that scale them), ``cosine`` cosines times a learned
    scale (for losses that expect logits).
    """
    if kind == "linear":
        return nn.Linear(features, classes)
    return NormalisedLinear(features, classes) if kind == "normalised" else CosineLinear(features, classes)


def choose_head(requested: Literal["auto", "normalised"], of_loss: LossHead) -> Head:
    """The kind of head for a loss: the one it expects, but ``cosine`` for a linear one if ``normalised`` is requested."""
    return "cosine" if requested == "normalised" and of_loss == "linear" else of_loss


class Standardise(nn.Module):
    """Shift features (B, D) to mean zero, and scale each block of them by one factor, so that all have the same variance.

    Most networks' features are all positive: cosines between them are close to one, and a linear head learns slowly. The sum
    of the variances is the length of the first block, which alone would have mean square one, so that a penalty on the
    weights means the same with and without the other blocks.

    Args:
        blocks: their lengths, of sum D.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        self._blocks = tuple(blocks)
        self.register_buffer("mean", torch.zeros(sum(blocks)))
        self.register_buffer("scale", torch.ones(sum(blocks)))

    def fit(self, features: Tensor | Iterable[Tensor]) -> None:
        """Compute means and factors from training features; a block of them that does not vary is only shifted.

        Args:
            features: (N, D), or several tensors of N rows in all, which are iterated over twice.
        """
        rows = [features] if isinstance(features, Tensor) else features
        count, total = 0, torch.zeros_like(self.mean, dtype=torch.float64)
        squares = total.new_zeros(len(self._blocks))
        for part in rows:
            count += len(part)
            total += part.sum(dim=0)
        self.mean.copy_(total / count)
        for part in rows:
            centred = (part - self.mean).split(self._blocks, dim=1)
            squares += torch.stack([block.square().sum(dim=1).sum() for block in centred])
        variances = (squares / count).to(self.mean)
        varies = variances > _NO_VARIANCE * variances.max()
        share = self._blocks[0] / varies.sum().clamp(min=1)
        factors = torch.where(varies, (variances / share).sqrt(), 1.0)
        self.scale.copy_(factors.repeat_interleave(torch.tensor(self._blocks, device=factors.device)))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


class CosineLinear(nn.Module):
    """Cosines between features and class weights times a learned scale: (B, D) → (B, C), logits.

    The cosine classifier of Gidaris and Komodakis (CVPR 2018, Eq. 5): no class has larger logits because its
    weights are longer. The logarithm of the scale is learned, so that the scale stays positive; it starts at 16.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.log_scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights and reset the scale."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        nn.init.constant_(self.log_scale, math.log(COSINE_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        return self.log_scale.exp() * cosines(features, self.weight)
