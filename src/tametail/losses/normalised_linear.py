"""The classifier that losses on cosines need.

Shape legend: B batch, C classes, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NormalisedLinear(nn.Module):
    """Cosines between features and class weights: (B, D) → (B, C), values in [-1, 1].

    The head of LDAM (Cao et al., 2019) and of cosine classifiers; the loss supplies the scale.

    Args:
        features: D.
        classes: C.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        return cosines(features, self.weight)


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    """Cosines (B, C) between features (B, D) and class weights (C, D)."""
    return F.linear(F.normalize(features, dim=-1), F.normalize(weight, dim=-1))
