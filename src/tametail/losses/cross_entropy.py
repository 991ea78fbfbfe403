"""Cross-entropy by softmax (ce) and by one sigmoid per class (bce): the baselines.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, Reduction, functional
from tametail.losses.links import Family, proportional
from tametail.losses.validation import ClassCounts, check_number


class CrossEntropyLoss(Loss):
    """Softmax cross-entropy, with label smoothing.

    Equal to ``torch.nn.functional.cross_entropy`` for class indices and for labels that sum to 1. Labels are not
    normalised: a multi-hot target sums the terms of its positives.

    Use it first: trained properly, it is the baseline that every other loss has to beat.

    Args:
        label_smoothing: ε in [0, 1): y becomes (1 - ε) y + ε / C.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.
    """

    name: ClassVar[str] = "ce"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "label_smoothing",
        "tau",
    )
    formula: str = "-Σ_c y_c log s_c"
    family: Family = "softmax"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        y = (1 - self.label_smoothing) * y + self.label_smoothing / z.shape[1]
        return -y * F.log_softmax(z, dim=1)

    def posterior(self, z: Tensor) -> Tensor:
        """The softmax, with the smoothing of the labels taken off."""
        s = torch.softmax(z, dim=1)
        if self.label_smoothing == 0:
            return s
        return proportional((s - self.label_smoothing / z.shape[1]).clamp(min=0))

    def has_plain_link(self) -> bool:
        return self.label_smoothing == 0


cross_entropy_loss = functional("cross_entropy_loss", CrossEntropyLoss)


class BinaryCrossEntropyLoss(Loss):
    """Sigmoid cross-entropy of each class against the rest, with label smoothing.

    The terms are those of ``torch.nn.functional.binary_cross_entropy_with_logits``, but ``mean`` divides the sum over
    classes by the number of samples, not of terms: C times torch's mean.

    Use it where an image may have several labels, and as the baseline of all losses with one sigmoid per class.

    Args:
        label_smoothing: ε in [0, 1): y becomes (1 - ε) y + ε / 2.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.
    """

    name: ClassVar[str] = "bce"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "label_smoothing",
        "tau",
    )
    formula: str = "Σ_c -y_c log p_c - (1-y_c) log(1-p_c)"
    family: Family = "sigmoid"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        y = (1 - self.label_smoothing) * y + self.label_smoothing / 2
        return -y * F.logsigmoid(z) - (1 - y) * F.logsigmoid(-z)

    def posterior(self, z: Tensor) -> Tensor:
        """The sigmoid, with the smoothing of the labels taken off."""
        p = torch.sigmoid(z)
        return ((p - self.label_smoothing / 2) / (1 - self.label_smoothing)).clamp(0, 1)

    def has_plain_link(self) -> bool:
        return self.label_smoothing == 0


binary_cross_entropy_loss = functional("binary_cross_entropy_loss", BinaryCrossEntropyLoss)
