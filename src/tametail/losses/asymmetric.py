"""Asymmetric loss (asl): separate focusing of positives and negatives, easy negatives cut off.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.asymmetric_slopes import AsymmetricSlopes
from tametail.losses.base import Reduction, functional
from tametail.losses.links import Family
from tametail.losses.numerics import log_clipped_complement, power
from tametail.losses.one_pass import OnePassLoss
from tametail.losses.validation import ClassCounts, check_flag, check_number


class AsymmetricLoss(OnePassLoss):
    """Asymmetric loss (ASL): focal loss with its own focusing for negatives, easy negatives cut off.

    q = min(1-p+clip, 1) stands for 1-p in the negative term: a negative with p <= clip costs nothing and has no
    gradient. A soft label mixes the two terms linearly. With all three hyper-parameters 0 it is binary cross-entropy.

    Deviations: the released code sums over the batch; it takes the focusing weight as a constant in the backward pass
    (``detach_focal_weight=True`` here; same value, another gradient); and it clamps probabilities at 1e-8, so that the
    gradient of a positive is exactly 0 from z = -19 down, where it is most wrong. This one has no clamp.

    Use it for many labels per image, most of them absent.

    Args:
        gamma_pos: γ+ >= 0 (1 in the released code).
        gamma_neg: γ- >= 0 (4 in the paper).
        clip: probability margin in [0, 1) (0.05 in the paper).
        detach_focal_weight: leave the focusing weights out of the gradient.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor: Asymmetric Loss for Multi-Label
        Classification, ICCV 2021, Eqs. 3 to 5.
    """

    name: ClassVar[str] = "asl"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "gamma_pos",
        "gamma_neg",
        "clip",
        "tau",
    )
    formula: str = "Σ_c -y (1-p)^γ+ log p - (1-y) (1-q)^γ- log q, q = min(1-p+clip, 1)"
    family: Family = "sigmoid"

    def __init__(
        self,
        *,
        gamma_pos: float = 1.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        detach_focal_weight: bool = False,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.gamma_pos = check_number("gamma_pos", gamma_pos)
        self.gamma_neg = check_number("gamma_neg", gamma_neg)
        self.clip = check_number("clip", clip, 0, 1)
        check_flag("detach_focal_weight", detach_focal_weight)
        self.detach_focal_weight = detach_focal_weight

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        log_q = log_clipped_complement(z, self.clip)
        weight_pos = torch.exp(self.gamma_pos * F.logsigmoid(-z))
        weight_neg = power(-torch.expm1(log_q), self.gamma_neg)
        if self.detach_focal_weight:
            weight_pos, weight_neg = weight_pos.detach(), weight_neg.detach()
        return -y * weight_pos * F.logsigmoid(z) - (1 - y) * weight_neg * log_q

    def slopes(self) -> AsymmetricSlopes:
        return AsymmetricSlopes(self.gamma_pos, self.gamma_neg, self.clip, self.detach_focal_weight)


asymmetric_loss = functional("asymmetric_loss", AsymmetricLoss)
