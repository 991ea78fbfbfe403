"""Asymmetric polynomial loss (apl) and robust asymmetric loss (ral): ASL with its first Taylor terms changed.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, Reduction, functional
from tametail.losses.links import Family
from tametail.losses.numerics import log_clipped_complement, power
from tametail.losses.validation import ClassCounts, check_number, check_real


class AsymmetricPolynomialLoss(Loss):
    """Asymmetric polynomial loss (APL): ASL whose positives have two Taylor coefficients changed.

    In -log p = Σ_k (1-p)^k / k the first coefficient becomes 1 - e1 and the second (1 - e2) / 2. With the defaults the
    linear term of a positive vanishes and the quadratic one is 1.75 (1-p)². The negative term is ASL's: q =
    min(1-p+clip, 1), nothing below p = clip. A soft label mixes the two terms linearly. With e1 = e2 = 0 it is asl.

    Deviations: the released code sums over the batch and clamps probabilities at 1e-8; this one has no clamp.

    Use it for many labels per image, as asl.

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

    name: ClassVar[str] = "apl"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "gamma_pos",
        "gamma_neg",
        "clip",
        "epsilon_1",
        "epsilon_2",
        "tau",
    )
    formula: str = (
        "Σ_c -y (1-p)^γ+ (log p + e1 (1-p) + e2/2 (1-p)^2) - (1-y) (1-q)^γ- log q, q = min(1-p+clip, 1)"
    )
    family: Family = "sigmoid"

    def __init__(
        self,
        *,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        epsilon_1: float = 1.0,
        epsilon_2: float = -2.5,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.gamma_pos = check_number("gamma_pos", gamma_pos)
        self.gamma_neg = check_number("gamma_neg", gamma_neg)
        self.clip = check_number("clip", clip, 0, 1)
        self.epsilon_1 = check_real("epsilon_1", epsilon_1)
        self.epsilon_2 = check_real("epsilon_2", epsilon_2)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        rest, log_q = torch.sigmoid(-z), log_clipped_complement(z, self.clip)
        series = F.logsigmoid(z) + self.epsilon_1 * rest + self.epsilon_2 / 2 * rest**2
        positive = -torch.exp(self.gamma_pos * F.logsigmoid(-z)) * series
        negative = -power(-torch.expm1(log_q), self.gamma_neg) * log_q
        return y * positive + (1 - y) * negative * self.negative_factor(z, log_q)

    def negative_factor(self, z: Tensor, log_q: Tensor) -> Tensor | float:
        """What negatives are multiplied by beyond ASL's term."""
        return 1.0


apl_loss = functional("apl_loss", AsymmetricPolynomialLoss)


class RobustAsymmetricLoss(AsymmetricPolynomialLoss):
    """Robust asymmetric loss (RAL): APL whose negatives are turned down by a Hill factor.

    The negative term is APL's times (λ - p) p² (λ - q). A soft label mixes the two terms linearly.

    Deviations: the paper has one factor λ - p; the released code, which this follows, also has one on q, and sums over
    the batch. A factor that falls with p can make the gradient of a confident false positive change its sign: with
    λ = 1.5 the slope of a negative stays >= 0, with λ = 1 it does not.

    Use it for many labels per image with a long tail, as in chest X-rays, which it was made for.

    Args:
        gamma_pos, gamma_neg, clip, epsilon_1, epsilon_2: see :class:`AsymmetricPolynomialLoss`.
        lam: λ >= 1 (1.5 in the paper).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Park, Park, Kim, Ryu: Robust Asymmetric Loss for Multi-Label Long-Tailed Learning, ICCV Workshops 2023;
        released code kalelpark/RAL.
    """

    name: ClassVar[str] = "ral"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "gamma_pos",
        "gamma_neg",
        "clip",
        "epsilon_1",
        "epsilon_2",
        "lam",
        "tau",
    )
    formula: str = "Σ_c -y (1-p)^γ+ (log p + e1 (1-p) + e2/2 (1-p)^2) - (1-y) (1-q)^γ- log q (λ-p) p^2 (λ-q), q = min(1-p+clip, 1)"

    def __init__(
        self,
        *,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        epsilon_1: float = 1.0,
        epsilon_2: float = -2.5,
        lam: float = 1.5,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(
            gamma_pos=gamma_pos,
            gamma_neg=gamma_neg,
            clip=clip,
            epsilon_1=epsilon_1,
            epsilon_2=epsilon_2,
            tau=tau,
            class_counts=class_counts,
            reduction=reduction,
            ignore_index=ignore_index,
        )
        self.lam = check_number("lam", lam, 1)

    def negative_factor(self, z: Tensor, log_q: Tensor) -> Tensor:
        p = torch.sigmoid(z)
        return (self.lam - p) * p**2 * (self.lam - torch.exp(log_q))


ral_loss = functional("ral_loss", RobustAsymmetricLoss)
