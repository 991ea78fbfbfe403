"""Asymmetric loss (ASL): separate focusing of positives and negatives, easy negatives cut off.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Link, Loss, Reduction
from tametail.losses.numerics import log_clipped_complement, power
from tametail.losses.terms import prepare, reduce
from tametail.losses.validation import ClassCounts, check_common, check_flag, check_number


def asymmetric_loss(
    input: Tensor,
    target: Tensor,
    *,
    gamma_pos: float = 1.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    detach_focal_weight: bool = False,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Asymmetric loss, Σ_c of -y (1-p)^γ+ log p - (1-y) (1-q)^γ- log q with q = min(1-p+clip, 1).

    A soft label mixes the two terms linearly. A negative with p <= clip costs nothing and has no gradient.
    With all three hyper-parameters 0 it is binary cross-entropy.

    The released code differs in three ways: it sums over the batch; it takes the focusing weight as a constant
    in the backward pass (``detach_focal_weight=True`` here; same value, another gradient); and it clamps
    probabilities at 1e-8, so that the gradient of a positive is exactly 0 from z = -19 down, where it is most
    wrong. This one has no clamp.

    Args:
        input: logits z (B, C), any float dtype; p = sigmoid(z).
        target: class indices (B,) or labels (B, C) in [0, 1], NaN where unknown.
        gamma_pos: γ+ >= 0 (1 in the released code).
        gamma_neg: γ- >= 0 (4 in the paper).
        clip: probability margin in [0, 1) (0.05 in the paper).
        detach_focal_weight: leave the focusing weights out of the gradient.
        reduction: ``mean`` over samples with a known label, ``sum``, or ``none`` for (B,).
        ignore_index: class index that means unknown.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit.

    Reference:
        Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor: Asymmetric Loss for Multi-Label
        Classification, ICCV 2021, Eqs. 3 to 5.
    """
    check_common(reduction, ignore_index)
    _check(gamma_pos, gamma_neg, clip, detach_focal_weight)
    z, y, known = prepare(input, target, ignore_index=ignore_index, coupled=False)
    log_q = log_clipped_complement(z, clip)
    weight_pos = torch.exp(gamma_pos * F.logsigmoid(-z))
    weight_neg = power(-torch.expm1(log_q), gamma_neg)
    if detach_focal_weight:
        weight_pos, weight_neg = weight_pos.detach(), weight_neg.detach()
    return reduce(-y * weight_pos * F.logsigmoid(z) - (1 - y) * weight_neg * log_q, known, reduction)


class AsymmetricLoss(Loss):
    """Asymmetric loss (ASL): focal loss with its own focusing for negatives, easy negatives cut off.

    Arguments as in :func:`asymmetric_loss`; ``class_counts`` are not used.
    """

    name: ClassVar[str] = "asl"
    link: ClassVar[Link] = "sigmoid"

    def __init__(
        self,
        *,
        gamma_pos: float = 1.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        detach_focal_weight: bool = False,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        _check(gamma_pos, gamma_neg, clip, detach_focal_weight)
        self.gamma_pos = gamma_pos
        self.gamma_neg = gamma_neg
        self.clip = clip
        self.detach_focal_weight = detach_focal_weight

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return asymmetric_loss(
            input,
            target,
            gamma_pos=self.gamma_pos,
            gamma_neg=self.gamma_neg,
            clip=self.clip,
            detach_focal_weight=self.detach_focal_weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
        )


def _check(gamma_pos: float, gamma_neg: float, clip: float, detach_focal_weight: bool) -> None:
    check_number("gamma_pos", gamma_pos)
    check_number("gamma_neg", gamma_neg)
    check_number("clip", clip, 0, 1)
    check_flag("detach_focal_weight", detach_focal_weight)
