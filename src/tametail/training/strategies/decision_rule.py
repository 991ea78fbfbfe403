"""Decision rules: from the outputs of a head to a decision and class probabilities.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses import Loss
from tametail.losses.links import Family, proportional, stationary_log_odds
from tametail.losses.numerics import log_prior


class DecisionRule(ABC):
    """Maps a head's outputs (B, C) to decisions and probabilities.

    Attributes:
        family: how the logits of :meth:`decision` become scores: ``softmax``, or one ``sigmoid`` per class.
        link: how outputs become probabilities: the name of the loss's link, followed by ``+smoothing`` where label
            smoothing was undone, and by ``+bayes`` where the class frequencies were corrected from equal ones to those of
            the training set.
        ceiling: the largest probability that the loss's link can give, see `tametail.losses.LinkName`.
    """

    family: Family
    link: str
    ceiling: float

    @property
    def key(self) -> Hashable:
        """Rules with equal keys decide in the same way; by default each is like no other."""
        return id(self)

    @abstractmethod
    def decision(self, outputs: Tensor) -> Tensor:
        """Logits (B, C), float32 or float64; the predicted class is their argmax."""

    @abstractmethod
    def posterior(self, outputs: Tensor) -> Tensor:
        """Probabilities (B, C), float32 or float64, for the class frequencies of the training set."""

    @abstractmethod
    def log_posterior(self, outputs: Tensor) -> Tensor:
        """Log-posterior up to a constant per row (softmax), or log-odds (sigmoid): (B, C) float64."""

    @abstractmethod
    def saturated(self, outputs: Tensor) -> Tensor:
        """Mask (B, C) of probabilities at the end of the range of the loss's link."""


class LossDecision(DecisionRule):
    """The loss's own decision and link.

    Attributes:
        loss: the loss.
        smoothing: ε of the recipe's label smoothing, in [0, 1): at its minimum the loss gives (1 - ε) η + ε π of the
            posterior η and the class frequencies π (`tametail.training.optimisation.smooth_labels`), which is undone.
        class_counts: (C,) training images per class, for π; needed with smoothing alone.
    """

    def __init__(self, loss: Loss, smoothing: float = 0.0, class_counts: Tensor | None = None) -> None:
        self.loss, self.smoothing, self.class_counts = loss, smoothing, class_counts
        self._of_loss = loss.link
        self.family, self.link, self.ceiling = loss.family, self._of_loss.name, self._of_loss.ceiling
        if smoothing:
            self.link += "+smoothing"

    @property
    def key(self) -> Hashable:
        loss, counts = self.loss, self.class_counts if self.smoothing else None
        return (
            type(self),
            type(loss),
            loss.extra_repr(),
            _values(loss.class_counts),
            self.smoothing,
            _values(counts),
        )

    def decision(self, outputs: Tensor) -> Tensor:
        return self.loss.decision(outputs)

    def posterior(self, outputs: Tensor) -> Tensor:
        p = self._of_loss(outputs)
        if self.class_counts is None or not self.smoothing:
            return p
        prior = torch.softmax(log_prior(self.class_counts, torch.float64), dim=0).to(p)
        return proportional(((p - self.smoothing * prior) / (1 - self.smoothing)).clamp(min=0))

    def saturated(self, outputs: Tensor) -> Tensor:
        return self._of_loss.saturated(outputs)

    def log_posterior(self, outputs: Tensor) -> Tensor:
        z = self.loss.adjusted(outputs.double())
        if self.loss.has_plain_link():
            return z
        if self.family == "softmax":
            return self.loss.posterior(z).clamp(min=torch.finfo(z.dtype).tiny).log()
        log_odds = stationary_log_odds(self.loss.terms, z)
        # No finite log-odds of float64 gradients reaches ±1000; beyond them the logits decide the order.
        return torch.where(log_odds.isinf(), torch.sign(log_odds) * 1000 + z, log_odds)


class BalancedDecision(DecisionRule):
    """The decision for equally frequent, mutually exclusive classes, for a classifier that was fitted for those.

    By Bayes' rule the posterior for the training set's class frequencies is proportional to the posterior for equal
    ones times the class count; a class without images counts as one image.

    Attributes:
        inner: the rule for equally frequent classes.
        class_counts: (C,) training images per class.
    """

    def __init__(self, inner: DecisionRule, class_counts: Tensor) -> None:
        self.inner, self.class_counts = inner, class_counts
        self.family, self.link, self.ceiling = "softmax", f"{inner.link}+bayes", inner.ceiling

    @property
    def key(self) -> Hashable:
        return type(self), self.inner.key, _values(self.class_counts)

    def decision(self, outputs: Tensor) -> Tensor:
        return _keep_dtype(self._log_scores(outputs), outputs)

    def posterior(self, outputs: Tensor) -> Tensor:
        return _keep_dtype(torch.softmax(self.log_posterior(outputs), dim=1), outputs)

    def saturated(self, outputs: Tensor) -> Tensor:
        return self.inner.saturated(outputs)

    def log_posterior(self, outputs: Tensor) -> Tensor:
        return self._log_scores(outputs) + log_prior(self.class_counts, torch.float64)

    def _log_scores(self, outputs: Tensor) -> Tensor:
        log_posterior = self.inner.log_posterior(outputs)
        return log_posterior if self.inner.family == "softmax" else F.logsigmoid(log_posterior)


class PriorAdjustedDecision(DecisionRule):
    """The posterior of another rule, and a decision by it divided by a power of the prior.

    Attributes:
        inner: the rule that gives the posterior.
        shift: (C,) float64, subtracted from its log-posterior or log-odds.
    """

    def __init__(self, inner: DecisionRule, shift: Tensor) -> None:
        self.inner, self.shift = inner, shift
        self.family, self.link, self.ceiling = inner.family, inner.link, inner.ceiling

    @property
    def key(self) -> Hashable:
        return type(self), self.inner.key, _values(self.shift)

    def decision(self, outputs: Tensor) -> Tensor:
        return _keep_dtype(self.log_posterior(outputs) - self.shift, outputs)

    def posterior(self, outputs: Tensor) -> Tensor:
        return self.inner.posterior(outputs)

    def saturated(self, outputs: Tensor) -> Tensor:
        return self.inner.saturated(outputs)

    def log_posterior(self, outputs: Tensor) -> Tensor:
        return self.inner.log_posterior(outputs)


def _values(tensor: Tensor | None) -> tuple[float, ...] | None:
    return None if tensor is None else tuple(tensor.flatten().tolist())


def _keep_dtype(values: Tensor, outputs: Tensor) -> Tensor:
    """Cast values to the outputs' dtype, but at least to float32."""
    return values.to(torch.promote_types(outputs.dtype, torch.float32))
