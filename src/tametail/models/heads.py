"""What stands on a backbone: a classifier of one of three kinds, and the scaling of frozen features. torch alone.

Shape legend: B batch, N images, C classes, D features.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Head = Literal["linear", "normalised", "cosine"]
COSINE_SCALE = 16.0  # of the cosine head at its start


def build_head(kind: Head, features: int, classes: int) -> nn.Module:
    """A classifier from features (B, D) to outputs (B, C).

    ``linear`` gives logits, ``normalised`` cosines (for losses that scale them), ``cosine`` cosines times a learned
    scale (for losses that expect logits).
    """
    if kind == "linear":
        return nn.Linear(features, classes)
    return NormalisedLinear(features, classes) if kind == "normalised" else CosineLinear(features, classes)


def choose_head(asked: Literal["auto", "normalised"], of_method: Literal["linear", "normalised"]) -> Head:
    """The kind of head for a loss: its own, unless a normalised one is asked for and its own is linear."""
    return "cosine" if asked == "normalised" and of_method == "linear" else of_method


class Standardise(nn.Module):
    """Features (B, D) moved to mean zero and scaled, all alike, to mean square one.

    Frozen features are all positive after most networks' last activation; cosines between them would all be
    near one, and a linear head would learn slowly. One common scale keeps the features' own proportions.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, features: Tensor) -> None:
        """Take mean and scale from training features (N, D)."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_((features - self.mean).square().mean().sqrt().clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


class NormalisedLinear(nn.Module):
    """Cosines between features and class weights: (B, D) → (B, C), values in [-1, 1].

    The head of LDAM (Cao et al., 2019) and of cosine classifiers; the loss supplies the scale.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        return _cosines(features, self.weight)


class CosineLinear(nn.Module):
    """Cosines between features and class weights times a learned scale: (B, D) → (B, C), logits.

    The cosine classifier of Gidaris and Komodakis (CVPR 2018, Eq. 5): no class gets larger logits for the length of its
    weights. The scale's logarithm is learned, so that it stays positive and moves in proportion; it starts at 16.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.log_scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, and put the scale back to its start."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        nn.init.constant_(self.log_scale, math.log(COSINE_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        return self.log_scale.exp() * _cosines(features, self.weight)


def _cosines(features: Tensor, weight: Tensor) -> Tensor:
    return F.linear(F.normalize(features, dim=-1), F.normalize(weight, dim=-1))
