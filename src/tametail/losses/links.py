"""Links: from a loss's logits to class probabilities.

At their minimum, balanced and asymmetric losses do not give the posterior but a known function of it; the link inverts
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
# Beyond it the gradients of all losses have reached their limits in float64.
_FAR = 30.0


@dataclass(frozen=True)
class Link:
    """``link(logits)`` → probabilities (B, C) of the classes in the population that was trained on.

    Attributes:
        name: ``softmax``, ``sigmoid``, or ``inverse`` where the loss's own minimiser is inverted; ``+prior``
            follows where the shift of logit-adjusted training is added to the logits again.
        exact: whether it gives the posteriors where the loss is at its minimum. False for losses with
            random or batch-wide parts, and where the probability does not rise with the logit.
        ceiling: the largest probability that it can give. Above it the loss has its minimum at an infinite logit:
            such probabilities cannot be distinguished (saturation).
    """

    name: str
    exact: bool
    ceiling: float
    apply: Callable[[Tensor], Tensor]

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (B, C), float32 or float64, of the head's outputs (B, C)."""
        return self.apply(logits)

    def saturated(self, logits: Tensor, within: float = 1e-3) -> Tensor:
        """Where (B, C) a probability is so close to a ceiling below one that the true one may be any above it."""
        if self.ceiling > 1 - 1e-6:
            return torch.zeros_like(logits, dtype=torch.bool)
        return self(logits) > self.ceiling - within


def stationary_posterior(terms: TermsFunction, logits: Tensor) -> Tensor:
    """The η for which these logits are the minimum of the expected loss, for one sigmoid per class.

    With P' and N' the derivatives by z of a positive's and a negative's term, η P' + (1 - η) N' is 0 at the minimum, so
    η = N' / (N' - P'). Binary cross-entropy has P' = p - 1 and N' = p, so η = p. It is constant beyond ±30.

    The logits (B, C) may be of any float dtype, the result's; it can be differentiated once.
    """
    with torch.inference_mode(False):
        at = _usable(logits).clamp(-_FAR, _FAR)
        positive, negative = _gradients(terms, at)
        total = positive + negative
        # Where both are 0 (weights of 0, underflow) only the logits are known.
        posterior = torch.where(total > 0, negative / torch.where(total > 0, total, 1.0), torch.sigmoid(at))
        return posterior.to(logits.dtype)


def stationary_log_odds(terms: TermsFunction, logits: Tensor) -> Tensor:
    """log η / (1 - η) of :func:`stationary_posterior`, (B, C) float64, precise also where η rounds to 0 or 1.

    -inf where a negative has gradient 0 and so η is 0, +inf where a positive has. Beyond ±30 they continue with slope 1 in
    the logit, which keeps the order where η itself is constant.
    """
    with torch.inference_mode(False):
        given = _usable(logits)
        at = given.clamp(-_FAR, _FAR)
        positive, negative = _gradients(terms, at)
        log_odds = negative.log() - positive.log()
        return torch.where(log_odds.isnan(), given, log_odds + (given - at))


def _usable(logits: Tensor) -> Tensor:
    """Logits in float64 that autograd can use."""
    return (logits.clone() if logits.is_inference() else logits).double()


def _gradients(terms: TermsFunction, at: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute gradients of a positive's and of a negative's term with respect to the logit, cut at 0 if the sign is wrong."""

    def gradient(label: float) -> Tensor:
        def total(z: Tensor) -> Tensor:
            return terms(z, torch.full_like(z, label)).sum()

        if torch._C._are_functorch_transforms_active():  # only then, as it takes two seconds to import
            mapped: Tensor = torch.func.grad(total)(at)
            return mapped
        with torch.enable_grad():
            z = at if at.requires_grad else at.detach().requires_grad_()
            return torch.autograd.grad(total(z), z, create_graph=at.requires_grad)[0]

    return (-gradient(1.0)).clamp(min=0), gradient(0.0).clamp(min=0)


def proportional(weights: Tensor) -> Tensor:
    """Rows (B, C) of non-negative weights scaled to sum to one."""
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
