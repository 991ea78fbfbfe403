"""Focal loss: cross-entropy with well-classified terms turned down.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Link, Loss, Reduction
from tametail.losses.terms import prepare, reduce
from tametail.losses.validation import ClassCounts, check_common, check_number


def focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Sigmoid focal loss, Σ_c of y α (1-p)^γ (-log p) + (1-y) (1-α) p^γ (-log(1-p)).

    A soft label mixes the two terms linearly. ``alpha=None`` leaves the balance factors out; with γ = 0 as
    well it is binary cross-entropy. The released code of RetinaNet divides by the number of positives; here
    ``mean`` divides by the number of samples.

    The weight (1-p)^γ is not a constant to the gradient: well-classified terms also lose slope.

    Args:
        input: logits z (B, C), any float dtype; p = sigmoid(z).
        target: class indices (B,) or labels (B, C) in [0, 1], NaN where unknown.
        alpha: weight of positives in [0, 1], 1 - alpha of negatives (0.25 in the paper), or None.
        gamma: focusing parameter γ >= 0 (2 in the paper).
        reduction: ``mean`` over samples with a known label, ``sum``, or ``none`` for (B,).
        ignore_index: class index that means unknown.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit.

    Reference:
        Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5.
    """
    check_common(reduction, ignore_index)
    gamma, (weight_pos, weight_neg) = check_number("gamma", gamma), _balance(alpha)
    z, y, known = prepare(input, target, ignore_index=ignore_index, coupled=False)
    log_p, log_not_p = F.logsigmoid(z), F.logsigmoid(-z)
    positive = weight_pos * torch.exp(gamma * log_not_p) * -log_p
    negative = weight_neg * torch.exp(gamma * log_p) * -log_not_p
    return reduce(y * positive + (1 - y) * negative, known, reduction)


class FocalLoss(Loss):
    """Sigmoid focal loss: binary cross-entropy with well-classified terms turned down.

    Arguments as in :func:`focal_loss`; ``class_counts`` are not used.
    """

    name: ClassVar[str] = "focal"
    link: ClassVar[Link] = "sigmoid"

    def __init__(
        self,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        _balance(alpha)
        self.alpha = alpha
        self.gamma = check_number("gamma", gamma)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return focal_loss(
            input,
            target,
            alpha=self.alpha,
            gamma=self.gamma,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
        )


def _balance(alpha: float | None) -> tuple[float, float]:
    """The weights of positives and of negatives."""
    if alpha is None:
        return 1.0, 1.0
    if check_number("alpha", alpha) > 1:
        raise ValueError(f"expected alpha in [0, 1] or None, got {alpha!r}")
    return float(alpha), 1.0 - alpha
