"""Poly-1 loss (poly1): cross-entropy or softmax focal loss with its first Taylor coefficient increased."""

from __future__ import annotations

from typing import Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, Loss, functional
from tametail.losses.links import proportional
from tametail.losses.numerics import log_complement_softmax, true_class
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_choice, check_number

Poly1Base = Literal["ce", "focal"]


@register_loss
class Poly1Loss(Loss):
    """Poly-1: cross-entropy (or softmax focal loss) plus ε times its leading Taylor term.

    ce: CE + ε (1-s_y). focal: focal + ε (1-s_y)^(γ+1). A soft label mixes the terms of its classes linearly. With
    ε = 0 it is its base.

    Use it as a small change to cross-entropy with a single number to tune.

    Args:
        base: ``ce`` or ``focal``.
        epsilon: ε >= -1 (1 here and in the paper's example); below -1 the loss would reward errors.
        gamma: γ >= 0 of the focal base (2 in the paper); ``ce`` does not use it.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Leng, Tan, Liu, Cubuk, Shi, Cheng, Anguelov: PolyLoss: A Polynomial Expansion Perspective of Classification
        Loss Functions, ICLR 2022, Eqs. 5 and 6.
    """

    name = "poly1"
    stackable = True
    formula = "Σ_c y_c (-(1-s_c)^γ log s_c + ε (1-s_c)^(γ+1)), γ = 0 for base ce"
    family = "softmax"

    def __init__(
        self,
        *,
        base: Poly1Base = "ce",
        epsilon: float = 1.0,
        gamma: float = 2.0,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        check_choice("base", base, get_args(Poly1Base))
        self.base: Poly1Base = base
        self.epsilon = check_number("epsilon", epsilon, -1)
        self.gamma = check_number("gamma", gamma)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        log_s = F.log_softmax(z, dim=1)
        log_rest = log_complement_softmax(log_s)
        gamma = self._power()
        focus = torch.exp(gamma * log_rest)
        return y * (self.epsilon * torch.exp((gamma + 1) * log_rest) - focus * log_s)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        cost, log_rest = true_class(z, index)
        gamma = self._power()
        return torch.exp(gamma * log_rest) * cost + self.epsilon * torch.exp((gamma + 1) * log_rest)

    def posterior(self, z: Tensor) -> Tensor:
        """η ∝ -1 / f'(s) for f(s) = -(1-s)^γ log s + ε (1-s)^(γ+1), over the common power of 1-s."""
        log_s = F.log_softmax(z, dim=1)
        s, log_rest = torch.exp(log_s), log_complement_softmax(log_s)
        gamma, rest = self._power(), torch.exp(log_rest)
        kept = rest + (1 + self.epsilon) * s  # 1 + ε s, precise also where ε is -1 and s close to 1
        if gamma == 0:
            return proportional(s / kept)
        # -s f'(s) = (1-s)^(γ-1) spread
        spread = rest * kept + gamma * s * (self.epsilon * rest - log_s)
        spread = spread.clamp(min=torch.finfo(z.dtype).tiny)
        return torch.softmax(log_s - (gamma - 1) * log_rest - spread.log(), dim=1)

    def _power(self) -> float:
        return self.gamma if self.base == "focal" else 0.0

    def has_plain_link(self) -> bool:
        return self.epsilon == 0 and self._power() == 0


poly1_loss = functional("poly1_loss", Poly1Loss)
