"""Sigmoid cross-entropy (bce): the baseline of losses with one sigmoid per class."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, functional
from tametail.losses.numerics import ZERO
from tametail.losses.one_pass import OnePassLoss
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class BinaryCrossEntropyLoss(OnePassLoss):
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

    def closed_form(self) -> _ClosedForm:
        return _ClosedForm(self.label_smoothing)

    def posterior(self, z: Tensor) -> Tensor:
        """The sigmoid with the label smoothing inverted."""
        p = torch.sigmoid(z)
        return ((p - self.label_smoothing / 2) / (1 - self.label_smoothing)).clamp(0, 1)

    def has_plain_link(self) -> bool:
        return self.label_smoothing == 0


binary_cross_entropy_loss = functional("binary_cross_entropy_loss", BinaryCrossEntropyLoss)


class _ClosedForm(NamedTuple):
    """P = log(1 + e^-z) + ε/2 z and N = log(1 + e^z) - ε/2 z, with label smoothing ε."""

    label_smoothing: float
    unit: float = 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """P' = ε/2 - (1-p)."""
        minus_z = z.neg()
        value = torch.logaddexp(ZERO, minus_z)
        gradient = minus_z.sigmoid_().sub_(self.label_smoothing / 2).mul_(-scale)
        return value.add_(z, alpha=self.label_smoothing / 2), gradient

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """N' = p - ε/2."""
        torch.sigmoid(z, out=gradient)
        gradient.sub_(self.label_smoothing / 2).mul_(scale)
        return torch.logaddexp(ZERO, z).sub_(z, alpha=self.label_smoothing / 2)
