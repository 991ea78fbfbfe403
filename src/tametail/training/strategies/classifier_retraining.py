"""Classifier re-training (crt): a new classifier on the representation as it is, with classes shown equally often.

Shape legend: n images, C classes, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tametail.losses import Loss
from tametail.models.heads import Head, Standardise, build_head
from tametail.training.strategies.after_training import NewHead
from tametail.training.strategies.balanced_training import seeded, train_balanced
from tametail.training.strategies.checks import check_positive, check_whole

_WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class ClassifierRetraining(NewHead):
    """The same kind of head, from new weights, trained with the same loss on features shown class-balanced.

    A linear head is trained on standardised features, and then written for the features as they are, so that the
    learning rate means the same for every backbone.

    Deviations: AdamW on features of the images as they are, in place of SGD on augmented images.

    Attributes:
        epochs: passes over as many images as there are, >= 1.
        lr: learning rate at the start times √D, > 0: AdamW moves every weight by the rate, and the more weights
            there are the further that moves a logit.

    Reference:
        Kang et al.: Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020, section 4.2.
    """

    name: ClassVar[str] = "crt"
    summary: ClassVar[str] = "a new classifier on the same features, trained with classes shown equally often"
    source: ClassVar[str] = "Kang et al., ICLR 2020"
    epochs: int = 30
    lr: float = 0.08

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs)
        check_positive("lr", self.lr)

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        return build_head(kind, features, classes)

    def fit(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
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
