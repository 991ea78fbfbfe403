"""Focal loss: cross-entropy with well-classified terms turned down, by sigmoid (focal) and by softmax (focal_softmax).

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, Reduction, functional
from tametail.losses.links import Family
from tametail.losses.numerics import log_complement_softmax
from tametail.losses.validation import ClassCounts, check_number


class FocalLoss(Loss):
    """Sigmoid focal loss: binary cross-entropy with well-classified terms turned down.

    A soft label mixes the two terms linearly. ``alpha=None`` leaves the balance factors out; with γ = 0 as well it is
    binary cross-entropy. The weight (1-p)^γ is not a constant to the gradient: well-classified terms also lose slope.

    Deviations: the released code of RetinaNet divides by the number of positives; here ``mean`` divides by the number
    of samples. Copies that take log(sigmoid(z)) return infinity from z = -89 down in float32; this one does not.

    Use it where most terms are easy negatives, as in detection; for single labels it is rarely ahead of cross-entropy.

    Args:
        alpha: weight of positives in [0, 1], 1 - alpha of negatives (0.25 in the paper), or None.
        gamma: focusing parameter γ >= 0 (2 in the paper).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5.
    """

    name: ClassVar[str] = "focal"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "alpha",
        "gamma",
        "tau",
    )
    formula: str = "Σ_c -y α (1-p)^γ log p - (1-y) (1-α) p^γ log(1-p)"
    family: Family = "sigmoid"

    def __init__(
        self,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.alpha = None if alpha is None else check_number("alpha", alpha)
        if self.alpha is not None and self.alpha > 1:
            raise ValueError(f"expected alpha in [0, 1] or None, got {alpha!r}")
        self.gamma = check_number("gamma", gamma)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        weight_pos, weight_neg = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        log_p, log_not_p = F.logsigmoid(z), F.logsigmoid(-z)
        positive = weight_pos * torch.exp(self.gamma * log_not_p) * -log_p
        negative = weight_neg * torch.exp(self.gamma * log_p) * -log_not_p
        return y * positive + (1 - y) * negative


focal_loss = functional("focal_loss", FocalLoss)


class FocalSoftmaxLoss(Loss):
    """Softmax focal loss: cross-entropy with well-classified samples turned down.

    With γ = 0 it is cross-entropy. A soft label mixes the terms of its classes linearly.

    Deviations: public code combines it with class weights by taking s from the *weighted* cross-entropy,
    exp(-w CE), which is no probability; here s is the softmax.

    Use it against over-confidence; it does not favour rare classes by itself.

    Args:
        gamma: focusing parameter γ >= 0 (2 in the paper).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Lin et al. 2017 as used by Cao et al. 2019 (kaidic/LDAM-DRW); the link by Charoenphakdee, Vongkulbhisal,
        Chairatanakul, Sugiyama: On Focal Loss for Class-Posterior Probability Estimation, CVPR 2021, Theorem 11.
    """

    name: ClassVar[str] = "focal_softmax"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "gamma",
        "tau",
    )
    formula: str = "-Σ_c y_c (1-s_c)^γ log s_c"
    family: Family = "softmax"

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.gamma = check_number("gamma", gamma)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        log_s = F.log_softmax(z, dim=1)
        return -y * torch.exp(self.gamma * log_complement_softmax(log_s)) * log_s

    def posterior(self, z: Tensor) -> Tensor:
        """η ∝ s / ((1-s)^γ - γ (1-s)^(γ-1) s log s), scaled by the least power of 1-s."""
        log_s = F.log_softmax(z, dim=1)
        log_rest = log_complement_softmax(log_s)
        spread = (torch.exp(log_rest) - self.gamma * torch.exp(log_s) * log_s).clamp(
            min=torch.finfo(z.dtype).tiny
        )
        log_weight = log_s - (self.gamma - 1) * log_rest - spread.log()
        return torch.softmax(log_weight, dim=1)

    def has_plain_link(self) -> bool:
        return self.gamma == 0


focal_softmax_loss = functional("focal_softmax_loss", FocalSoftmaxLoss)
