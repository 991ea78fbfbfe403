"""Links: from a loss's logits to class probabilities.

Balanced and asymmetric losses do not have the posterior at their minimum, but a known function of it: the link undoes
that function. Shape legend: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Family = Literal["softmax", "sigmoid"]
# Beyond it a logit tells no more: the slopes of all losses have reached their limits in float64.
_FAR = 30.0


@dataclass(frozen=True)
class Link:
    """``link(logits)`` → probabilities (B, C) of the classes in the population that was trained on.

    Attributes:
        name: ``softmax``, ``sigmoid``, or ``inverse`` where the loss's own minimiser has to be undone; ``+prior``
            follows where the logits get the shift back that they had in training.
        exact: whether it gives the posteriors where the loss is at its minimum. Where not, it is the usual reading.
        ceiling: the largest probability that it can give. Above it the loss has its minimum at an infinite logit:
            such classes are saturated, and cannot be told apart.
    """

    name: str
    exact: bool
    ceiling: float
    apply: Callable[[Tensor], Tensor]

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, C), float32 or float64, of the head's outputs (B, C).

        Under softmax a row sums to one; one sigmoid per class gives each class a probability of its own.
        """
        return self.apply(logits)

    def saturated(self, logits: Tensor, within: float = 1e-3) -> Tensor:
        """Where (B, C) a probability lies so near a ceiling below one that the true one may be any above it."""
        if self.ceiling > 1 - 1e-6:
            return torch.zeros_like(logits, dtype=torch.bool)
        return self(logits) > self.ceiling - within


def stationary_posterior(terms: Callable[[Tensor, Tensor], Tensor], logits: Tensor) -> Tensor:
    """The η for which these logits are the minimum of the expected loss, for one sigmoid per class.

    With slopes P' of a positive's term and N' of a negative's, η P' + (1 - η) N' is 0 at the minimum, so that
    η = N' / (N' - P'). Binary cross-entropy has P' = p - 1 and N' = p, so η = p.

    Args:
        terms: the per-term loss of (logits, target), as :meth:`Loss.terms`.
        logits: (B, C); computed in float64 whatever they are.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = logits.detach().clone().double().clamp(-_FAR, _FAR).detach().requires_grad_()
        slopes = [
            torch.autograd.grad(terms(at, torch.full_like(at, label)).sum(), at)[0] for label in (1.0, 0.0)
        ]
    positive, negative = (-slopes[0]).clamp(min=0), slopes[1].clamp(min=0)
    total = positive + negative
    # Where neither slope is left (weights of 0, underflow) the logits say nothing.
    posterior = torch.where(total > 0, negative / torch.where(total > 0, total, 1.0), torch.sigmoid(at))
    return posterior.detach().to(logits.dtype)


def proportional(weights: Tensor) -> Tensor:
    """Rows (B, C) of non-negative weights, scaled to sum to one."""
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
