"""Many heads of one kind on the same features, as one module with one weight matrix. torch alone.

Shape legend: H heads, C classes, D features, B batch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.losses import NormalisedLinear
from tametail.models.heads import CosineLinear


class HeadStack(nn.Module):
    """H heads from `build_head`, all of one kind: features (B, D) → outputs (H, C, B).

    Each parameter is that of the heads, stacked. Images come last, as in `tametail.losses.stack`.
    """

    weight: Tensor

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self._like = (heads[0],)  # in a tuple it is not a submodule
        for name, _ in heads[0].named_parameters():
            stacked = torch.stack([head.get_parameter(name).detach() for head in heads])
            self.register_parameter(name, nn.Parameter(stacked))

    def __len__(self) -> int:
        return len(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        weight, like = self.weight, self._like[0]
        if isinstance(like, NormalisedLinear | CosineLinear):
            features, weight = F.normalize(features, dim=-1), F.normalize(weight, dim=-1)
        heads, classes, _ = weight.shape
        outputs = (weight.flatten(0, 1) @ features.T).view(heads, classes, len(features))
        if isinstance(like, CosineLinear):
            return self.get_parameter("log_scale").exp().view(-1, 1, 1) * outputs
        if isinstance(like, NormalisedLinear):
            return outputs
        return outputs + self.get_parameter("bias").unsqueeze(2)

    def head(self, at: int) -> nn.Module:
        """One of the heads, as a separate module."""
        head = copy.deepcopy(self._like[0])
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                parameter.copy_(self.get_parameter(name)[at])
        return head
