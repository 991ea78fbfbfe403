"""Robust asymmetric loss (ral): APL with a Hill factor on its negatives."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from tametail.losses.asymmetric_polynomial import AsymmetricPolynomialLoss
from tametail.losses.base import CommonParameters, functional
from tametail.losses.numerics import log_clipped_complement, power
from tametail.losses.one_pass import ClosedForm
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class RobustAsymmetricLoss(AsymmetricPolynomialLoss):
    """Robust asymmetric loss (RAL): APL whose negatives are down-weighted by a Hill factor.

    The negative term is APL's times (λ - p) p² (λ - q). A soft label mixes the two terms linearly.

    Deviations: the paper has one factor λ - p; the released code, which this follows, also has one on q, and sums over
    the batch. A factor that falls with p can change the sign of the gradient of a confident false positive: with
    λ = 1.5 the gradient of a negative stays >= 0, with λ = 1 it does not.

    Use it for several labels per image with a long tail, as in chest X-rays, which it was designed for.

    Args:
        gamma_pos, gamma_neg, clip, epsilon_1, epsilon_2: see :class:`AsymmetricPolynomialLoss`.
        lam: λ >= 1 (1.5 in the paper).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Park, Park, Kim, Ryu: Robust Asymmetric Loss for Multi-Label Long-Tailed Learning, ICCV Workshops 2023;
        released code kalelpark/RAL.
    """

    name = "ral"
    stackable = True
    formula = "Σ_c -y (1-p)^γ+ (log p + e1 (1-p) + e2/2 (1-p)^2) - (1-y) (1-q)^γ- log q (λ-p) p^2 (λ-q), q = min(1-p+clip, 1)"

    def __init__(
        self,
        *,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        epsilon_1: float = 1.0,
        epsilon_2: float = -2.5,
        lam: float = 1.5,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(
            gamma_pos=gamma_pos,
            gamma_neg=gamma_neg,
            clip=clip,
            epsilon_1=epsilon_1,
            epsilon_2=epsilon_2,
            **common,
        )
        self.lam = check_number("lam", lam, 1)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        p, log_q = torch.sigmoid(z), log_clipped_complement(z, self.clip)
        factor = (self.lam - p) * p**2 * (self.lam - torch.exp(log_q))
        negative = -power(-torch.expm1(log_q), self.gamma_neg) * log_q * factor
        return y * self.positive_term(z) + (1 - y) * negative

    def closed_form(self) -> _ClosedForm:
        return _ClosedForm(super().closed_form(), self.clip, self.lam)


ral_loss = functional("ral_loss", RobustAsymmetricLoss)


class _ClosedForm(NamedTuple):
    """P and N of apl, N times h = (λ - p) p² (λ - q)."""

    plain: ClosedForm
    clip: float
    lam: float
    unit: float = 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        return self.plain.positive(z, scale)

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """(N h)' = N' h + N h' with h' = p² (1-p) ((2 λ - 3 p) (λ - q) + (λ - p) p); N is 0 where q does not move."""
        value = self.plain.negative(z, scale, gradient)
        p = torch.sigmoid(z)
        of_q = p.sub(self.clip).clamp_(min=0).add_(self.lam - 1)  # λ - q
        of_p = torch.rsub(p, self.lam)
        square = p * p
        gradient.mul_(of_q).mul_(of_p).mul_(square)
        slope = p.mul(-3).add_(2 * self.lam).mul_(of_q).addcmul_(of_p, p).mul_(square).mul_(torch.sigmoid(-z))
        gradient.addcmul_(slope, value, value=scale)
        return value.mul_(of_q).mul_(of_p).mul_(square)
