"""Variants of ALPA that `new_loss.py` compares; results: docs/results/new-loss.md.

Shape legend: H heads, C classes, B batch. Logits are (B, C), or (H, C, B) if several heads are trained together.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses import Loss, ReductionParameters
from tametail.losses.links import proportional
from tametail.losses.pade import pade_ratio
from tametail.losses.validation import ClassCounts


class CountedPade(Loss):
    """ALPA of exact Padé order with logit adjustment, and four ways to use class counts.

    Σ_c α w_c y (1-p⁻)^γ₊c A(p⁻) + (1-y) p^γ₋c A(1-p), p = sigmoid(u), p⁻ = sigmoid(u - m_c), u = z / Δ_c + τ log-odds.

    Args:
        alpha: weight of positives relative to negatives.
        gamma_pos, gamma_neg: focusing, γ_c = γ (n_c / n_max)^kappa.
        order: of the approximant A.
        margin: m_c = margin (n_min / n_c)^(1/4).
        kappa: see above.
        omega: w_c = ((n - n_c) / n_c)^omega.
        growth: Δ_c = (n_max / n_c)^growth.
        tau, class_counts, reduction, ignore_index: as for all losses.
    """

    name = "new_loss_variants:CountedPade"
    formula = "Σ_c α w_c y (1-p⁻)^γ₊c A(p⁻) + (1-y) p^γ₋c A(1-p)"
    family = "sigmoid"
    uses_class_counts = True
    stackable = True

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        alpha: float = 1.0,
        gamma_pos: float = 0.0,
        gamma_neg: float = 1.0,
        order: tuple[int, int] = (4, 4),
        margin: float = 0.0,
        kappa: float = 0.0,
        omega: float = 0.0,
        growth: float = 0.0,
        tau: float = 1.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.alpha, self.gamma_pos, self.gamma_neg, self.order = alpha, gamma_pos, gamma_neg, order
        self.margin, self.kappa, self.omega, self.growth = margin, kappa, omega, growth
        self._ratio = pade_ratio(order)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        counts = self._counts(z)
        rarity = (counts.amax(0) / counts).log()
        focus = torch.exp(-self.kappa * rarity)
        weight = self.alpha * torch.exp(self.omega * ((counts.sum(0) - counts) / counts).log())
        moved = z - self.margin * (counts.amin(0) / counts) ** 0.25
        positive = torch.exp((self.gamma_pos * focus + 1) * F.logsigmoid(-moved)) * self._ratio(
            torch.sigmoid(moved)
        )
        negative = torch.exp((self.gamma_neg * focus + 1) * F.logsigmoid(z)) * self._ratio(torch.sigmoid(-z))
        return weight * y * positive + (1 - y) * negative

    def adjusted(self, z: Tensor) -> Tensor:
        counts = self._counts(z)
        return super().adjusted(z * torch.exp(-self.growth * (counts.amax(0) / counts).log()))

    def _counts(self, z: Tensor) -> Tensor:
        """(C,) for logits (B, C), (C, 1) for (H, C, B)."""
        counts = self.counts_for(z).to(z.dtype).clamp(min=1)
        return counts.unsqueeze(1) if z.ndim == 3 else counts


class SoftmaxPade(Loss):
    """ALPA's terms on a softmax adjusted by the log prior.

    Σ_c y_c (1-s_c)^γ₊ A(s_c) + β (1-y_c) s_c^γ₋ A(1-s_c). With β = 0 it is focal softmax loss with A in place of -log.

    At the minimum of the expected loss on the simplex η_c f'(s_c) + (1-η_c) g'(s_c) is one λ for all classes, with f a
    positive's term and g a negative's; so η_c = (g'_c - λ) / (g'_c - f'_c), and Σ η = 1 gives λ.

    Args:
        beta: weight of negatives; gamma_pos, gamma_neg, order as for ALPA.
        tau, class_counts, reduction, ignore_index: as for all losses.
    """

    name = "new_loss_variants:SoftmaxPade"
    formula = "Σ_c y (1-s)^γ₊ A(s) + β (1-y) s^γ₋ A(1-s)"
    family = "softmax"
    uses_class_counts = True
    stackable = True

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        beta: float = 0.0,
        gamma_pos: float = 0.0,
        gamma_neg: float = 1.0,
        order: tuple[int, int] = (4, 4),
        tau: float = 1.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.beta, self.gamma_pos, self.gamma_neg, self.order = beta, gamma_pos, gamma_neg, order
        self._ratio = pade_ratio(order)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        s = torch.softmax(z, dim=1)
        return y * self._positive(s) + self.beta * (1 - y) * self._negative(s)

    def posterior(self, z: Tensor) -> Tensor:
        s = torch.softmax(z.detach().double(), dim=1).requires_grad_()
        with torch.enable_grad():
            of_positive = torch.autograd.grad(self._positive(s).sum(), s)[0]
            of_negative = torch.autograd.grad((self.beta * self._negative(s)).sum(), s)[0]
        pull = of_negative - of_positive
        share = of_negative / pull
        level = (share.sum(dim=1, keepdim=True) - 1) / (1 / pull).sum(dim=1, keepdim=True)
        return proportional((share - level / pull).clamp(min=0)).to(z.dtype)

    def _positive(self, s: Tensor) -> Tensor:
        rest = (1 - s).clamp(min=1e-7)
        return rest ** (self.gamma_pos + 1) * self._ratio(s)

    def _negative(self, s: Tensor) -> Tensor:
        s = s.clamp(min=1e-30)
        return s ** (self.gamma_neg + 1) * self._ratio(1 - s)
