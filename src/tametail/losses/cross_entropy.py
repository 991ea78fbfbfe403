"""Softmax cross-entropy (ce): the baseline."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, Loss, functional
from tametail.losses.links import proportional
from tametail.losses.registry import register_loss
from tametail.losses.terms import prepare_indices, reduce_samples
from tametail.losses.validation import check_number


@register_loss
class CrossEntropyLoss(Loss):
    """Softmax cross-entropy, with label smoothing.

    Equal to ``torch.nn.functional.cross_entropy`` for class indices and for labels that sum to 1. Labels are not
    normalised: a multi-hot target sums the terms of its positives.

    Use it first: properly trained, it is the baseline that every other loss has to beat.

    Args:
        label_smoothing: ε in [0, 1): y becomes (1 - ε) y + ε / C.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.
    """

    name = "ce"
    stackable = True
    formula = "-Σ_c y_c log s_c"
    family = "softmax"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self._by_index is CrossEntropyLoss and self._takes_indices(target):
            z, index, known = prepare_indices(input, target, ignore_index=self.ignore_index)
            z = self.adjusted(z)
            if known is None:  # torch's own mean: of a small batch it takes a third of the time
                return F.cross_entropy(
                    z, index, reduction=self.reduction, label_smoothing=self.label_smoothing
                )
            return reduce_samples(self.of_indices(z, index), known, self.reduction)
        return super().forward(input, target)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        y = (1 - self.label_smoothing) * y + self.label_smoothing / z.shape[1]
        return -y * F.log_softmax(z, dim=1)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(z, index, reduction="none", label_smoothing=self.label_smoothing)

    def posterior(self, z: Tensor) -> Tensor:
        """The softmax with the label smoothing inverted."""
        s = torch.softmax(z, dim=1)
        if self.label_smoothing == 0:
            return s
        return proportional((s - self.label_smoothing / z.shape[1]).clamp(min=0))

    def has_plain_link(self) -> bool:
        return self.label_smoothing == 0


cross_entropy_loss = functional("cross_entropy_loss", CrossEntropyLoss)
