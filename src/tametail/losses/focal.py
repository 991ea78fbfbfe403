"""Sigmoid focal loss (focal): binary cross-entropy with well-classified terms down-weighted."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.asymmetric import AsymmetricClosedForm
from tametail.losses.base import CommonParameters, functional
from tametail.losses.one_pass import OnePassLoss, WeightedForm
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class FocalLoss(OnePassLoss):
    """Sigmoid focal loss: binary cross-entropy with well-classified terms down-weighted.

    A soft label mixes the two terms linearly. ``alpha=None`` leaves the balance factors out; with γ = 0 as well it is
    binary cross-entropy. The gradient includes that of the weight (1-p)^γ.

    Deviations: the released code of RetinaNet divides by the number of positives; here ``mean`` divides by the number
    of samples. Implementations with log(sigmoid(z)) return infinity for z <= -89 in float32; this one does not.

    Use it where most terms are easy negatives, as in detection; for single labels it is rarely better than cross-entropy.

    Args:
        alpha: weight of positives in [0, 1], 1 - alpha of negatives (0.25 in the paper), or None.
        gamma: focusing parameter γ >= 0 (2 in the paper).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5.
    """

    name = "focal"
    stackable = True
    formula = "Σ_c -y α (1-p)^γ log p - (1-y) (1-α) p^γ log(1-p)"
    family = "sigmoid"

    def __init__(
        self,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.alpha = None if alpha is None else check_number("alpha", alpha)
        if self.alpha is not None and self.alpha > 1:
            raise ValueError(f"expected alpha in [0, 1] or None, got {alpha!r}")
        self.gamma = check_number("gamma", gamma)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        weight_pos, weight_neg = self._balance
        log_p, log_not_p = F.logsigmoid(z), F.logsigmoid(-z)
        positive = weight_pos * torch.exp(self.gamma * log_not_p) * -log_p
        negative = weight_neg * torch.exp(self.gamma * log_p) * -log_not_p
        return y * positive + (1 - y) * negative

    def closed_form(self) -> WeightedForm:
        return WeightedForm(AsymmetricClosedForm(self.gamma, self.gamma, 0.0, False), *self._balance)

    @property
    def _balance(self) -> tuple[float, float]:
        """Weights of positives and negatives."""
        return (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)


focal_loss = functional("focal_loss", FocalLoss)
