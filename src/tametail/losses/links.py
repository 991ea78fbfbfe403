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
TermsFunction = Callable[[Tensor, Tensor], Tensor]
# Beyond it a logit tells no more: the slopes of all losses have reached their limits in float64.
_FAR = 30.0


@dataclass(frozen=True)
class Link:
    """``link(logits)`` → probabilities (B, C) of the classes in the population that was trained on.

    Attributes:
        name: ``softmax``, ``sigmoid``, or ``inverse`` where the loss's own minimiser has to be undone; ``+prior``
            follows where the logits get the shift back that they had in training.
        exact: whether it gives the posteriors where the loss is at its minimum. Where not, it is the usual reading: so
            for losses with random or batch-wide parts, and where the probability does not rise with the logit.
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


def stationary_posterior(terms: TermsFunction, logits: Tensor) -> Tensor:
    """The η for which these logits are the minimum of the expected loss, for one sigmoid per class.

    With slopes P' of a positive's term and N' of a negative's, η P' + (1 - η) N' is 0 at the minimum, so that
    η = N' / (N' - P'). Binary cross-entropy has P' = p - 1 and N' = p, so η = p. Beyond ±30 it moves no further.

    Args:
        terms: the per-term loss of (logits, target), as :meth:`Loss.terms`.
        logits: (B, C); computed in float64 whatever they are.

    Returns:
        (B, C) in the logits' dtype, differentiable once.
    """
    with torch.inference_mode(False):
        at = _usable(logits).clamp(-_FAR, _FAR)
        positive, negative = _pulls(terms, at)
        total = positive + negative
        # Where neither is left (weights of 0, underflow) the logits are all there is.
        posterior = torch.where(total > 0, negative / torch.where(total > 0, total, 1.0), torch.sigmoid(at))
        return posterior.to(logits.dtype)


def stationary_log_odds(terms: TermsFunction, logits: Tensor) -> Tensor:
    """log η / (1 - η) of :func:`stationary_posterior`, float64: logits (B, C) that η has no digits left for.

    -inf where a negative has no slope and η is 0, +inf where a positive has none. Beyond ±30 they go on by the logit's
    own steps, so that the order is kept where η itself has come to its end.
    """
    with torch.inference_mode(False):
        given = _usable(logits)
        at = given.clamp(-_FAR, _FAR)
        positive, negative = _pulls(terms, at)
        log_odds = negative.log() - positive.log()
        return torch.where(log_odds.isnan(), given, log_odds + (given - at))


def _usable(logits: Tensor) -> Tensor:
    """Logits in float64 that a graph can be made of."""
    return (logits.clone() if logits.is_inference() else logits).double()


def _pulls(terms: TermsFunction, at: Tensor) -> tuple[Tensor, Tensor]:
    """How strongly a positive pulls its logit up, and a negative down, both >= 0."""

    def slope(label: float) -> Tensor:
        def total(z: Tensor) -> Tensor:
            return terms(z, torch.full_like(z, label)).sum()

        if torch._C._are_functorch_transforms_active():  # else not, as it takes two seconds to import
            mapped: Tensor = torch.func.grad(total)(at)
            return mapped
        with torch.enable_grad():
            z = at if at.requires_grad else at.detach().requires_grad_()
            return torch.autograd.grad(total(z), z, create_graph=at.requires_grad)[0]

    return (-slope(1.0)).clamp(min=0), slope(0.0).clamp(min=0)


def proportional(weights: Tensor) -> Tensor:
    """Rows (B, C) of non-negative weights, scaled to sum to one."""
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
