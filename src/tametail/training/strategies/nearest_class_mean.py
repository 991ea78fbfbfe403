"""Nearest class mean (ncm): the class with the nearest mean of features.

Shape legend: n images, B batch, C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.losses import CrossEntropyLoss, Loss
from tametail.models.heads import Head
from tametail.training.strategies.decision_rule import BalancedDecision, DecisionRule, LossDecision
from tametail.training.strategies.strategy import Strategy, register_strategy

_ABSENT = -1e4  # an output below that of every class with images
_SCALES = (1.0, 1000.0)


@register_strategy
@dataclass(frozen=True)
class NearestClassMean(Strategy):
    """Nearest-class-mean classifier on centred features of unit length; trains nothing.

    argmin_c ‖u - μ_c‖ with u = (x - m) / ‖x - m‖, m the mean of the class means of x, and μ_c the mean of u in c.
    The paper leaves open whether cosine or Euclidean distance is meant: this is Euclidean distance on centred and
    L2-normalised features (Wang et al. 2019, who centre by the mean of balanced training images; the mean of class
    means is its counterpart for unbalanced classes). A class without images is never predicted.

    Outputs are -s ‖u - μ_c‖², the logarithms of spherical Gaussian densities. The scale s is the maximum-likelihood
    one for equally frequent classes, with leave-one-out class means; it changes no decision.

    Reference:
        Kang et al.: Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020, section 4.2.
        Wang, Chao, Weinberger, van der Maaten: SimpleShot, 2019.
    """

    name: ClassVar[str] = "ncm"
    source: ClassVar[str] = "Kang et al., ICLR 2020; Wang et al., 2019"

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        return ClassMeans(features, classes)

    def fit_head(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        with torch.no_grad():
            new = ClassMeans(features.shape[1], head(features[:1]).shape[1])
            new.fit(features, target)
        return new

    def decision_rule(self, inner: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        # Distances do not depend on the loss: their link is the plain softmax.
        return BalancedDecision(LossDecision(CrossEntropyLoss()), class_counts)


class ClassMeans(nn.Module):
    """Scaled negative squared distances to class means, up to a constant per row: (B, D) → (B, C)."""

    centre: Tensor
    means: Tensor
    scale: Tensor
    present: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("means", torch.zeros(classes, features))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("present", torch.ones(classes, dtype=torch.bool))

    def fit(self, features: Tensor, target: Tensor) -> None:
        """Estimate centre, means and scale from training features (n, D) and their classes (n,)."""
        one_hot = F.one_hot(target, len(self.means)).to(features.dtype)
        counts = one_hot.sum(dim=0)
        self.present.copy_(counts > 0)
        weights = one_hot / counts.clamp(min=1)
        self.centre.copy_((weights.T @ features)[self.present].mean(dim=0))
        units = F.normalize(features - self.centre, dim=1)
        self.means.copy_(weights.T @ units)
        self.scale.fill_(_fitted_scale(units, target, self.means, counts))

    def forward(self, features: Tensor) -> Tensor:
        units = F.normalize(features - self.centre, dim=1)
        nearness = F.linear(units, 2 * self.means, -self.means.square().sum(dim=1))
        return (self.scale * nearness).masked_fill(~self.present, _ABSENT)


def _fitted_scale(units: Tensor, target: Tensor, means: Tensor, counts: Tensor) -> float:
    """The s in [1, 1000] that maximises the mean over classes of the mean log-likelihood, log softmax(-s d²)_y.

    It is concave in s; the root of its derivative is found by bisection. A class of one image has no leave-one-out mean
    and enters only as a competitor; where all classes have one image, s is 1.
    """
    own = F.one_hot(target, len(means)).bool()
    left = counts[target] / (counts[target] - 1).clamp(min=1)
    distances = torch.cdist(units.double(), means.double()).square()
    # The leave-one-out mean of n images is n / (n - 1) times as far from the image.
    distances = torch.where(own, distances * left.square().unsqueeze(1), distances)
    logits = (-distances).masked_fill(counts == 0, -torch.inf)
    weights = torch.where(counts > 1, 1 / counts, 0.0).double()[target]

    def derivative(scale: float) -> float:
        expected = (torch.softmax(scale * logits, dim=1) * distances).sum(dim=1)
        return float((weights * (expected - distances[own])).sum())

    low, high = _SCALES
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if derivative(middle) > 0 else (low, middle)
    return low
