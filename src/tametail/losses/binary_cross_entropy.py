"""Sigmoid cross-entropy (bce): the baseline of losses with one sigmoid per class."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, Loss, functional
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class BinaryCrossEntropyLoss(Loss):
    """Sigmoid cross-entropy of each class against the rest, with label smoothing.

    The terms are those of ``torch.nn.functional.binary_cross_entropy_with_logits``, but ``mean`` divides the sum over
    classes by the number of samples, not of terms: C times torch's mean.

    Use it where an image may have several labels, and as the baseline for losses with one sigmoid per class.

    Args:
        label_smoothing: ε in [0, 1): y becomes (1 - ε) y + ε / 2.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.
    """

    name = "bce"
    stackable = True
    formula = "Σ_c -y_c log p_c - (1-y_c) log(1-p_c)"
    family = "sigmoid"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        y = (1 - self.label_smoothing) * y + self.label_smoothing / 2
        return -y * F.logsigmoid(z) - (1 - y) * F.logsigmoid(-z)

    def posterior(self, z: Tensor) -> Tensor:
        """The sigmoid with the label smoothing inverted."""
        p = torch.sigmoid(z)
        return ((p - self.label_smoothing / 2) / (1 - self.label_smoothing)).clamp(0, 1)

    def has_plain_link(self) -> bool:
        return self.label_smoothing == 0


binary_cross_entropy_loss = functional("binary_cross_entropy_loss", BinaryCrossEntropyLoss)
