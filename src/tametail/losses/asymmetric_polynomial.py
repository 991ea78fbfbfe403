"""Asymmetric polynomial loss (apl): ASL with other first Taylor coefficients."""

from __future__ import annotations

import math
from typing import NamedTuple, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.asymmetric import AsymmetricClosedForm
from tametail.losses.base import CommonParameters, functional
from tametail.losses.numerics import ZERO, log_clipped_complement, plain_power, power
from tametail.losses.one_pass import ClosedForm, OnePassLoss
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class AsymmetricPolynomialLoss(OnePassLoss):
    """Asymmetric polynomial loss (APL): ASL with the first two Taylor coefficients of its positives changed.

    In -log p = Σ_k (1-p)^k / k the first coefficient becomes 1 - e1 and the second (1 - e2) / 2. With the defaults the
    linear term of a positive vanishes and the quadratic one is 1.75 (1-p)². The negative term is ASL's: q =
    min(1-p+clip, 1), nothing below p = clip. A soft label mixes the two terms linearly. With e1 = e2 = 0 it is asl.

    Deviations: the released code sums over the batch and clamps probabilities at 1e-8; this one has no clamp.

    Use it for several labels per image, like asl.

    Args:
        gamma_pos: γ+ >= 0 (0 in the paper).
        gamma_neg: γ- >= 0 (4 in the paper).
        clip: probability margin in [0, 1) (0.05 in the paper).
        epsilon_1: e1, any number (1 in the released code).
        epsilon_2: e2, any number (-2.5 in the released code).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Huang, Qi, Wang, Lin: Asymmetric Polynomial Loss for Multi-Label Classification, ICASSP 2023.
    """

    name = "apl"
    stackable = True
    formula = "Σ_c -y (1-p)^γ+ (log p + e1 (1-p) + e2/2 (1-p)^2) - (1-y) (1-q)^γ- log q, q = min(1-p+clip, 1)"
    family = "sigmoid"

    def __init__(
        self,
        *,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        epsilon_1: float = 1.0,
        epsilon_2: float = -2.5,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.gamma_pos = check_number("gamma_pos", gamma_pos)
        self.gamma_neg = check_number("gamma_neg", gamma_neg)
        self.clip = check_number("clip", clip, 0, 1)
        self.epsilon_1 = check_number("epsilon_1", epsilon_1, -math.inf)
        self.epsilon_2 = check_number("epsilon_2", epsilon_2, -math.inf)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        log_q = log_clipped_complement(z, self.clip)
        negative = -power(-torch.expm1(log_q), self.gamma_neg) * log_q
        return y * self.positive_term(z) + (1 - y) * negative

    def positive_term(self, z: Tensor) -> Tensor:
        """The cost of a positive."""
        rest = torch.sigmoid(-z)
        series = F.logsigmoid(z) + self.epsilon_1 * rest + self.epsilon_2 / 2 * rest**2
        return -torch.exp(self.gamma_pos * F.logsigmoid(-z)) * series

    def closed_form(self) -> ClosedForm:
        return _ClosedForm(self.gamma_pos, self.gamma_neg, self.clip, self.epsilon_1, self.epsilon_2)


apl_loss = functional("apl_loss", AsymmetricPolynomialLoss)


class _ClosedForm(NamedTuple):
    """P = -r^γ+ S with r = 1-p and S = log p + e1 r + e2/2 r²; N is that of asl."""

    gamma_pos: float
    gamma_neg: float
    clip: float
    epsilon_1: float
    epsilon_2: float
    unit: float = 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """P' = r^γ+ (γ+ p S - r + p r (e1 + e2 r))."""
        minus_z = z.neg()
        series = torch.logaddexp(ZERO, minus_z).neg_()
        p, rest = torch.sigmoid(z), minus_z.sigmoid_()
        series.add_(rest, alpha=self.epsilon_1).addcmul_(rest, rest, value=self.epsilon_2 / 2)
        focus = plain_power(rest, self.gamma_pos)
        gradient = rest.mul(self.epsilon_2).add_(self.epsilon_1).mul_(p).sub_(1).mul_(rest)
        gradient.addcmul_(p, series, value=self.gamma_pos)
        return series.mul_(focus).neg_(), gradient.mul_(focus).mul_(scale)

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        return AsymmetricClosedForm(0.0, self.gamma_neg, self.clip, False).negative(z, scale, gradient)
