"""Cross-entropy by softmax (ce) and by one sigmoid per class (bce): the baselines.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Link, Loss, Reduction
from tametail.losses.terms import prepare, reduce
from tametail.losses.validation import ClassCounts, check_common, check_number


def cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Softmax cross-entropy, -Σ_c y_c log softmax(z)_c.

    Equal to ``torch.nn.functional.cross_entropy`` for class indices and for labels that sum to 1. Labels are
    not normalised: a multi-hot target sums the terms of its positives.

    Args:
        input: logits z (B, C), any float dtype.
        target: class indices (B,) or labels (B, C) in [0, 1]; a NaN label removes its term of the sum.
        label_smoothing: ε in [0, 1): y becomes (1 - ε) y + ε / C.
        reduction: ``mean`` over samples with a known label, ``sum``, or ``none`` for (B,).
        ignore_index: class index that means unknown.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit.
    """
    check_common(reduction, ignore_index)
    smoothing = check_number("label_smoothing", label_smoothing, 0, 1)
    z, y, known = prepare(input, target, ignore_index=ignore_index, coupled=True)
    y = (1 - smoothing) * y + smoothing / z.shape[1]
    return reduce(-y * F.log_softmax(z, dim=1), known, reduction)


class CrossEntropyLoss(Loss):
    """Softmax cross-entropy, with label smoothing.

    Arguments as in :func:`cross_entropy_loss`; ``class_counts`` are not used.
    """

    name: ClassVar[str] = "ce"
    link: ClassVar[Link] = "softmax"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return cross_entropy_loss(
            input,
            target,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
        )


def binary_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Sigmoid cross-entropy of each class against the rest, Σ_c -y_c log p_c - (1 - y_c) log(1 - p_c).

    The terms are those of ``torch.nn.functional.binary_cross_entropy_with_logits``, but ``mean`` divides the
    sum over classes by the number of samples, not of terms: C times torch's mean.

    Args:
        input: logits z (B, C), any float dtype; p = sigmoid(z).
        target: class indices (B,) or labels (B, C) in [0, 1], NaN where unknown.
        label_smoothing: ε in [0, 1): y becomes (1 - ε) y + ε / 2.
        reduction: ``mean`` over samples with a known label, ``sum``, or ``none`` for (B,).
        ignore_index: class index that means unknown.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit.
    """
    check_common(reduction, ignore_index)
    smoothing = check_number("label_smoothing", label_smoothing, 0, 1)
    z, y, known = prepare(input, target, ignore_index=ignore_index, coupled=False)
    y = (1 - smoothing) * y + smoothing / 2
    return reduce(-y * F.logsigmoid(z) - (1 - y) * F.logsigmoid(-z), known, reduction)


class BinaryCrossEntropyLoss(Loss):
    """Sigmoid cross-entropy of each class against the rest, with label smoothing.

    Arguments as in :func:`binary_cross_entropy_loss`; ``class_counts`` are not used.
    """

    name: ClassVar[str] = "bce"
    link: ClassVar[Link] = "sigmoid"

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_loss(
            input,
            target,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
        )
