"""Robust asymmetric loss (ral): APL with a Hill factor on its negatives."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from tametail.losses.asymmetric_polynomial import AsymmetricPolynomialLoss
from tametail.losses.base import CommonParameters, functional
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

    def negative_factor(self, z: Tensor, log_q: Tensor) -> Tensor:
        p = torch.sigmoid(z)
        return (self.lam - p) * p**2 * (self.lam - torch.exp(log_q))


ral_loss = functional("ral_loss", RobustAsymmetricLoss)
