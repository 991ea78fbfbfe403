"""Learnable weight scaling (lws): one factor per class on the trained head's outputs.

Shape legend: n images, B batch, C classes, D features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tametail.losses import Loss
from tametail.models.heads import Head, build_head
from tametail.training.strategies.balanced_training import check_positive, check_positive_int, train_balanced
from tametail.training.strategies.strategy import Strategy, register_strategy


@register_strategy
@dataclass(frozen=True)
class LearnedScales(Strategy):
    """Learnable weight scaling: one factor per class, learned with class-balanced sampling.

    z_c = f_c (x · w_c + b_c), where the head's w and b are fixed.

    Deviations: the logarithm of f is learned, so that every factor is positive. AdamW on features of the images without
    augmentation, in place of SGD on augmented images.

    Attributes:
        epochs: number of passes over n sampled images, >= 1.
        lr: initial learning rate of log f, > 0.

    Reference:
        Kang et al.: Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020, section 4.2.
    """

    name: ClassVar[str] = "lws"
    source: ClassVar[str] = "Kang et al., ICLR 2020"
    epochs: int = 30
    lr: float = 0.02

    def __post_init__(self) -> None:
        check_positive_int("epochs", self.epochs)
        check_positive("lr", self.lr)

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        return nn.Sequential(build_head(kind, features, classes), Scales(classes))

    def fit_head(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        with torch.no_grad():
            outputs = head(features)
        scales = Scales(outputs.shape[1])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LDAMLoss expects the cosines")  # scaled ones may exceed 1
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
