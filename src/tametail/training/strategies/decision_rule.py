"""How the outputs of a head are read: which class they decide for, and how probable each class is.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses import Link, Loss
from tametail.losses.links import Family, stationary_log_odds
from tametail.losses.prior import log_prior


class DecisionRule(ABC):
    """The reading of a head's outputs (B, C).

    Attributes:
        family: how the logits of :meth:`decision` become scores: by one ``softmax`` or by one ``sigmoid`` per class.
        link: how outputs become probabilities: the name of the loss's link; ``+bayes`` follows where a population of
            equally frequent classes was turned into the trained one.
        ceiling: the largest probability that the loss's link can give, see `tametail.losses.Link`.
    """

    family: Family
    link: str
    ceiling: float

    @abstractmethod
    def decision(self, outputs: Tensor) -> Tensor:
        """Logits (B, C), float32 or float64, whose largest decides."""

    @abstractmethod
    def posterior(self, outputs: Tensor) -> Tensor:
        """Probabilities (B, C), float32 or float64, in the population that was trained on."""

    @abstractmethod
    def log_posterior(self, outputs: Tensor) -> Tensor:
        """The posterior's logarithms up to a constant per row (softmax), or its log-odds (sigmoid): (B, C) float64."""

    @abstractmethod
    def saturated(self, outputs: Tensor) -> Tensor:
        """Where (B, C) a probability is at the end of what the loss's link can tell."""


@dataclass(frozen=True, eq=False)
class LossDecision(DecisionRule):
    """Outputs read as their loss reads them."""

    loss: Loss

    @property
    def family(self) -> Family:  # type: ignore[override]
        return self.loss.family

    @property
    def link(self) -> str:  # type: ignore[override]
        return self._link.name

    @property
    def ceiling(self) -> float:  # type: ignore[override]
        return self._link.ceiling

    @property
    def _link(self) -> Link:
        return self.loss.link

    def decision(self, outputs: Tensor) -> Tensor:
        return self.loss.decision(outputs)

    def posterior(self, outputs: Tensor) -> Tensor:
        return self._link(outputs)

    def saturated(self, outputs: Tensor) -> Tensor:
        return self._link.saturated(outputs)

    def log_posterior(self, outputs: Tensor) -> Tensor:
        z = self.loss.adjusted(outputs.double())
        if self.loss.has_plain_link():
            return z
        if self.family == "softmax":
            return self.loss.posterior(z).clamp(min=torch.finfo(z.dtype).tiny).log()
        log_odds = stationary_log_odds(self.loss.terms, z)
        # No finite log-odds of float64 slopes reaches ±1000; beyond them the logits keep their own order.
        return torch.where(log_odds.isinf(), torch.sign(log_odds) * 1000 + z, log_odds)


@dataclass(frozen=True, eq=False)
class BalancedDecision(DecisionRule):
    """Outputs of a classifier that was made for equally frequent classes, of which an image has exactly one.

    It decides for that population. By Bayes' rule the posterior in the trained one is in proportion to the posterior
    in this one times the class's count; a class without images counts as if it had one.

    Attributes:
        inner: the reading in the population of equal classes.
        class_counts: (C,) images per class that were trained on.
    """

    inner: DecisionRule
    class_counts: Tensor

    @property
    def family(self) -> Family:  # type: ignore[override]
        return "softmax"

    @property
    def link(self) -> str:  # type: ignore[override]
        return f"{self.inner.link}+bayes"

    @property
    def ceiling(self) -> float:  # type: ignore[override]
        return self.inner.ceiling

    def decision(self, outputs: Tensor) -> Tensor:
        return _as_given(self._log_shares(outputs), outputs)

    def posterior(self, outputs: Tensor) -> Tensor:
        return _as_given(torch.softmax(self.log_posterior(outputs), dim=1), outputs)

    def saturated(self, outputs: Tensor) -> Tensor:
        return self.inner.saturated(outputs)

    def log_posterior(self, outputs: Tensor) -> Tensor:
        return self._log_shares(outputs) + log_prior(self.class_counts, torch.float64)

    def _log_shares(self, outputs: Tensor) -> Tensor:
        log_posterior = self.inner.log_posterior(outputs)
        return log_posterior if self.inner.family == "softmax" else F.logsigmoid(log_posterior)


@dataclass(frozen=True, eq=False)
class PriorAdjustedDecision(DecisionRule):
    """Another reading's posterior, and a decision for the population in which a power of the prior is taken out of it.

    Attributes:
        inner: where the posterior comes from.
        shift: (C,) float64, what is taken off its logarithms or log-odds.
    """

    inner: DecisionRule
    shift: Tensor

    @property
    def family(self) -> Family:  # type: ignore[override]
        return self.inner.family

    @property
    def link(self) -> str:  # type: ignore[override]
        return self.inner.link

    @property
    def ceiling(self) -> float:  # type: ignore[override]
        return self.inner.ceiling

    def decision(self, outputs: Tensor) -> Tensor:
        return _as_given(self.log_posterior(outputs) - self.shift, outputs)

    def posterior(self, outputs: Tensor) -> Tensor:
        return self.inner.posterior(outputs)

    def saturated(self, outputs: Tensor) -> Tensor:
        return self.inner.saturated(outputs)

    def log_posterior(self, outputs: Tensor) -> Tensor:
        return self.inner.log_posterior(outputs)


def _as_given(values: Tensor, outputs: Tensor) -> Tensor:
    """Values in the outputs' dtype, or float32 where that is a smaller one."""
    return values.to(torch.promote_types(outputs.dtype, torch.float32))
