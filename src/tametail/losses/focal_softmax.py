"""Softmax focal loss (focal_softmax): cross-entropy with well-classified samples down-weighted."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, Loss, functional
from tametail.losses.numerics import log_complement_softmax, true_class
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class FocalSoftmaxLoss(Loss):
    """Softmax focal loss: cross-entropy with well-classified samples down-weighted.

    With γ = 0 it is cross-entropy. A soft label mixes the terms of its classes linearly.

    Deviations: public code combines it with class weights by computing s from the *weighted* cross-entropy,
    exp(-w CE), which is no probability; here s is the softmax.

    Use it against overconfidence; it does not favour rare classes by itself.

    Args:
        gamma: focusing parameter γ >= 0 (2 in the paper).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Lin et al. 2017 as used by Cao et al. 2019 (kaidic/LDAM-DRW); the link by Charoenphakdee, Vongkulbhisal,
        Chairatanakul, Sugiyama: On Focal Loss for Class-Posterior Probability Estimation, CVPR 2021, Theorem 11.
    """

    name = "focal_softmax"
    stackable = True
    formula = "-Σ_c y_c (1-s_c)^γ log s_c"
    family = "softmax"

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.gamma = check_number("gamma", gamma)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        log_s = F.log_softmax(z, dim=1)
        return -y * torch.exp(self.gamma * log_complement_softmax(log_s)) * log_s

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        cost, log_rest = true_class(z, index)
        return torch.exp(self.gamma * log_rest) * cost

    def posterior(self, z: Tensor) -> Tensor:
        """η ∝ s / ((1-s)^γ - γ (1-s)^(γ-1) s log s), scaled by the smallest power of 1-s."""
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
