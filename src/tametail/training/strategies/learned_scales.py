"""Learnable weight scaling (lws): one factor per class on the trained head's outputs.

Shape legend: n images, B batch, C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tametail.losses import Loss
from tametail.models.heads import Head, build_head
from tametail.training.strategies.after_training import NewHead
from tametail.training.strategies.balanced_training import train_balanced
from tametail.training.strategies.checks import check_positive, check_whole


@dataclass(frozen=True)
class LearnedScales(NewHead):
    """z_c = f_c (x · w_c + b_c): the factors f are learned with classes shown equally often, the head stays.

    Deviations: the logarithm of f is learned, so that no factor turns a class's direction round. AdamW on features of
    the images as they are, in place of SGD on augmented images.

    Attributes:
        epochs: passes over as many images as there are, >= 1.
        lr: learning rate of log f at the start, > 0.

    Reference:
        Kang et al.: Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020, section 4.2.
    """

    name: ClassVar[str] = "lws"
    summary: ClassVar[str] = "one factor per class, learned with classes shown equally often"
    source: ClassVar[str] = "Kang et al., ICLR 2020"
    epochs: int = 30
    lr: float = 0.02

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs)
        check_positive("lr", self.lr)

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        return nn.Sequential(build_head(kind, features, classes), Scales(classes))

    def fit(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        with torch.no_grad():
            outputs = head(features)
        scales = Scales(outputs.shape[1])
        train_balanced(
            scales, outputs, target, loss, epochs=self.epochs, lr=self.lr, weight_decay=0.0, seed=seed
        )
        return nn.Sequential(head, scales)


class Scales(nn.Module):
    """Outputs (B, C) times a positive factor per class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(classes))

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * self.log_scale.exp()
