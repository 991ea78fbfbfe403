"""Classifier re-training (crt): a new classifier on the fixed representation, with class-balanced sampling.

Shape legend: n images, C classes, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tametail.losses import Loss
from tametail.models.heads import Standardise
from tametail.training.strategies.balanced_training import (
    check_positive,
    check_positive_int,
    seeded,
    train_balanced,
)
from tametail.training.strategies.strategy import Strategy, register_strategy

_WEIGHT_DECAY = 1e-2


@register_strategy
@dataclass(frozen=True)
class ClassifierRetraining(Strategy):
    """Classifier re-training: a new classifier on the same features, with class-balanced sampling.

    The head is of the same kind, starts from new weights, and is trained with the same loss. A linear head is trained on
    standardised features and then rewritten for the raw ones, so that the learning rate has the same meaning for every
    backbone.

    Deviations: AdamW on features of the images without augmentation, in place of SGD on augmented images.

    Attributes:
        epochs: number of passes over n sampled images, >= 1.
        lr: initial learning rate times √D, > 0: AdamW moves every weight by the learning rate, and the more weights
            there are, the further that moves a logit.

    Reference:
        Kang et al.: Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020, section 4.2.
    """

    name: ClassVar[str] = "crt"
    source: ClassVar[str] = "Kang et al., ICLR 2020"
    epochs: int = 30
    lr: float = 0.08

    def __post_init__(self) -> None:
        check_positive_int("epochs", self.epochs)
        check_positive("lr", self.lr)

    def fit_head(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        with seeded(seed):
            head.reset_parameters()  # type: ignore[operator]
        standardise = Standardise(features.shape[1])
        if isinstance(head, nn.Linear):
            standardise.fit(features)
            features = standardise(features)
        train_balanced(
            head,
            features,
            target,
            loss,
            epochs=self.epochs,
            lr=self.lr / math.sqrt(features.shape[1]),
            weight_decay=_WEIGHT_DECAY,
            seed=seed,
        )
        return _for_raw_features(head, standardise) if isinstance(head, nn.Linear) else head


@torch.no_grad()
def _for_raw_features(head: nn.Linear, standardise: Standardise) -> nn.Linear:
    """The head that gives for features what ``head`` gives for the standardised ones."""
    head.weight.div_(standardise.scale)
    head.bias.sub_(head.weight @ standardise.mean)
    return head
