"""What all strategies have in common that follow a finished training.

Shape legend: n training images, C classes, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from tametail.core.errors import UsageError
from tametail.losses import Loss
from tametail.models.heads import Head
from tametail.training.strategies.decision_rule import BalancedDecision, DecisionRule


@dataclass(frozen=True)
class AfterTraining(ABC):
    """A strategy that takes a trained model. Its fields are its parameters, numbers with defaults.

    Attributes:
        name: as it is written after a ``+``.
        summary: one line for people.
        source: the paper.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]

    @property
    def text(self) -> str:
        """``name[parameter=value,...]`` with the parameters that are not at their defaults."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        written = ",".join(f"{name}={_write(value)}" for name, value in given)
        return f"{self.name}[{written}]" if written else self.name

    @abstractmethod
    def judge(self, decision_rule: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        """The reading of the outputs, from what it was before.

        Args:
            judgement: the reading so far.
            class_counts: (C,) training images per class.
            images: training images; fewer than the counts' sum where an image may have several labels.
        """


class NewHead(AfterTraining):
    """A strategy that puts another head on the representation, made for equally frequent classes.

    Its loss is told equal class counts, and the posterior goes back to the trained population by Bayes' rule.
    """

    @abstractmethod
    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        """A head, not fitted, whose weights can be loaded; ``kind`` is that of the trained head.

        Raises:
            UsageError: the strategy has no meaning for this kind.
        """

    @abstractmethod
    def fit(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        """The new head. Torch's random state is left as it is.

        Args:
            head: a copy of the trained head, from features (B, D) to outputs (B, C), to be changed or used up.
            features: (n, D) float32 of the training images.
            target: (n,) their classes.
            loss: what the head was trained with, made with equal class counts.
            seed: of all that is drawn; the same seed gives the same weights, bit for bit.
        """

    def judge(self, decision_rule: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        return BalancedDecision(decision_rule, class_counts)


def equal_counts(class_counts: Tensor) -> Tensor:
    """(C,) int64: the images of all classes (C,), shared out evenly, at least one for each."""
    return torch.full_like(class_counts, max(round(int(class_counts.sum()) / len(class_counts)), 1))


def check_features(features: Tensor, target: Tensor, strategy: str) -> None:
    """Refuse what no new head can be fitted to.

    Raises:
        UsageError: labels (n, C), of which an image may have several.
        ValueError: shapes that do not fit.
    """
    if target.ndim == 2:
        raise UsageError(
            f"expected one class per image for {strategy}, got labels of shape {tuple(target.shape)}: it samples or "
            f"averages images class by class. With several labels per image leave it out; la works there"
        )
    if features.ndim != 2 or target.shape != features.shape[:1] or not len(target):
        raise ValueError(
            f"expected features (n, D) and target (n,) with n >= 1 for {strategy}, "
            f"got {tuple(features.shape)} and {tuple(target.shape)}"
        )


def _write(value: float) -> str:
    return repr(value).removesuffix(".0").replace("e+", "e")
