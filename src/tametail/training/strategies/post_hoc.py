"""Strategies that are applied to a trained model: taunorm, crt, lws and ncm fit a new head, la decides differently.

Shape legend: n images, B batch, C classes, D features.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.core.errors import UsageError
from tametail.data.row_store import row_blocks
from tametail.data.sampling.samplers import make_order
from tametail.losses import CrossEntropyLoss, Loss
from tametail.losses.links import Family
from tametail.losses.validation import check_number
from tametail.models.heads import Head, Standardise, build_head
from tametail.training.large_tensors import join_blocks
from tametail.training.strategies.decision_rule import (
    BalancedDecision,
    DecisionRule,
    LossDecision,
    PriorAdjustedDecision,
)
from tametail.training.strategies.strategy import Strategy, register_strategy

_MAX_BATCH, _MIN_BATCH, _MIN_STEPS = 128, 16, 16

_ABSENT = -1e4  # an output below that of every class with images
_SCALES = (1.0, 1000.0)

_WEIGHT_DECAY = 1e-2


@register_strategy
@dataclass(frozen=True)
class TauNormalisation(Strategy):
    """Tau-normalised classifier: class weights of equal norm, no bias; trains nothing.

    z_c = x · w_c / ‖w_c‖^τ, so that frequent classes lose the advantage of their larger norms. All weights are
    multiplied by the geometric mean of the norms to the power τ, which changes no decision and keeps the scale of the
    logits.

    Deviations: the paper selects τ on held-out images; here it is a parameter with default 1.

    Attributes:
        tau: τ >= 0; 0 leaves the norms unchanged, 1 makes them equal.

    Reference:
        Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis: Decoupling Representation and Classifier for Long-Tailed
        Recognition, ICLR 2020, Eq. 4.
    """

    name: ClassVar[str] = "taunorm"
    source: ClassVar[str] = "Kang et al., ICLR 2020"
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau)

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        if kind != "linear":
            raise UsageError(
                f"expected a linear head for taunorm, got the {kind} one, whose class weights have equal norms "
                f"already; leave taunorm out, or use crt, lws or ncm"
            )
        return nn.Linear(features, classes, bias=False)

    def fit_head(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        if not isinstance(head, nn.Linear):
            raise UsageError(f"expected a linear head for taunorm, got {type(head).__name__}; leave it out")
        classes, width = head.weight.shape
        new: nn.Linear = nn.utils.skip_init(nn.Linear, width, classes, bias=False)
        with torch.no_grad():
            new.weight.copy_(tau_normalised(head.weight, self.tau))
        return new


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """Divide weights (C, D) by their norms to the power ``tau``, and multiply by the geometric mean norm to that power.

    A weight of norm 0 stays 0 and is left out of the mean.
    """
    log_norms = torch.linalg.vector_norm(weight.double(), dim=1, keepdim=True).log()
    nonzero = log_norms.isfinite()
    mean = torch.where(nonzero, log_norms, 0.0).sum() / nonzero.sum().clamp(min=1)
    factor = torch.where(nonzero, tau * (mean - log_norms), 0.0).exp()
    return (weight * factor).to(weight.dtype)


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
        standardise = Standardise([features.shape[1]])
        if isinstance(head, nn.Linear):
            blocks = row_blocks(*features.shape)
            standardise.fit([features[block] for block in blocks])
            raw = features
            features = join_blocks(blocks, lambda block: standardise(raw[block]))
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


@register_strategy
@dataclass(frozen=True)
class NearestClassMean(Strategy):
    """Nearest-class-mean classifier on centred features of unit length; trains nothing.

    argmin_c ‖u - μ_c‖ with u = (x - m) / ‖x - m‖, m the mean of the class means of x, and μ_c the mean of u in c.
    The paper leaves open whether cosine or Euclidean distance is meant: this is Euclidean distance on centred and
    L2-normalised features (Wang et al. 2019, who centre by the mean of balanced training images). A class without images
    is never predicted.

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


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and restore its random state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_balanced(
    module: nn.Module,
    inputs: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    epochs: int,
    lr: float,
    weight_decay: float,
    seed: int,
) -> None:
    """Train a module in place by AdamW, with class-balanced sampling and cosine annealing of the learning rate to zero.

    An epoch samples n images in batches of 128; with few images batches are smaller, down to 16, and an epoch samples
    more than n, so that it has at least 16 steps.

    Args:
        module: maps inputs (B, ...) to outputs (B, C).
        inputs: (n, ...).
        target: (n,) classes.
        loss: maps outputs (B, C) and classes (B,) to a scalar.
        epochs: number of epochs.
        lr: initial learning rate.
        weight_decay: of matrices; vectors and scalars have none.
        seed: of the sampling order, and of the loss's own random numbers.
    """
    n = len(target)
    batch = min(max(n // _MIN_STEPS, _MIN_BATCH), _MAX_BATCH)
    copies = max(math.ceil(_MIN_STEPS * batch / n), 1)
    order = make_order("balanced", np.tile(target.numpy(), copies), seed=seed)
    steps = epochs * math.ceil(len(order) / batch)
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with seeded(seed), torch.enable_grad():
        for epoch in range(epochs):
            for chosen in torch.from_numpy(order.positions(epoch) % n).split(batch):
                optimizer.zero_grad(set_to_none=True)
                loss(module(inputs[chosen]), target[chosen]).backward()
                optimizer.step()
                schedule.step()


def check_positive(name: str, value: object) -> None:
    """Check that a parameter is a finite number > 0."""
    if check_number(name, value) == 0:
        raise ValueError(f"expected {name} > 0, got {value!r}")


def check_positive_int(name: str, value: object) -> None:
    """Check that a parameter is a whole number >= 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number for {name}, got {value!r}")
    if value < 1:
        raise ValueError(f"expected {name} >= 1, got {value}")


@register_strategy
@dataclass(frozen=True)
class LogitAdjustment(Strategy):
    """Post-hoc logit adjustment: decides by the posterior divided by the class prior; trains nothing.

    Decides by log η - τ log π (softmax losses) or logit η - τ logit π (sigmoid losses), where η is the posterior by the
    loss's own link and π the class frequency in the training set. With τ = 1 the largest log η - log π is the optimal
    decision for balanced accuracy, as far as η is correct. It replaces the loss's own adjustment for rare classes: after
    balanced_softmax, τ = 1 decides as before, and τ = 0 for the class frequencies of the training set. The posterior
    stays that of the training population.

    Attributes:
        tau: τ >= 0, the power of the prior that is divided out (1 in the paper).

    Reference:
        Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-Tail Learning via Logit Adjustment, ICLR 2021, Eq. 9.
    """

    name: ClassVar[str] = "la"
    source: ClassVar[str] = "Menon et al., ICLR 2021"
    multi_label: ClassVar[bool] = True
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau)

    def decision_rule(self, inner: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        return PriorAdjustedDecision(inner, self.tau * log_prior_odds(class_counts, images, inner.family))


def log_prior_odds(class_counts: Tensor, images: int, family: Family) -> Tensor:
    """Log class frequencies log π (C,) float64 among ``images``, or, for sigmoid losses, their log-odds.

    A class without images counts as one image; a class that all images have counts as absent from one.
    """
    counts = class_counts.double()
    rest = torch.full_like(counts, images) if family == "softmax" else (images - counts).clamp(min=1)
    return counts.clamp(min=1).log() - rest.log()
