"""Asymmetric polynomial loss (apl): ASL with other first Taylor coefficients."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, Loss, functional
from tametail.losses.numerics import log_clipped_complement, power
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class AsymmetricPolynomialLoss(Loss):
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
        rest, log_q = torch.sigmoid(-z), log_clipped_complement(z, self.clip)
        series = F.logsigmoid(z) + self.epsilon_1 * rest + self.epsilon_2 / 2 * rest**2
        positive = -torch.exp(self.gamma_pos * F.logsigmoid(-z)) * series
        negative = -power(-torch.expm1(log_q), self.gamma_neg) * log_q
        return y * positive + (1 - y) * negative * self.negative_factor(z, log_q)

    def negative_factor(self, z: Tensor, log_q: Tensor) -> Tensor | float:
        """Factor of the negatives in addition to ASL's term."""
        return 1.0


apl_loss = functional("apl_loss", AsymmetricPolynomialLoss)
