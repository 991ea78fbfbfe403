"""LDAM: softmax cross-entropy on cosines with a larger margin for rarer classes.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Head, Link, Loss, Reduction
from tametail.losses.terms import prepare, reduce
from tametail.losses.validation import ClassCounts, check_class_counts, check_common, check_number


def ldam_margins(
    class_counts: ClassCounts, max_margin: float = 0.5, dtype: torch.dtype = torch.float64
) -> Tensor:
    """The margin of each class (C,), proportional to n^(-1/4), ``max_margin`` for the rarest class.

    A class with zero count has the margin of the rarest class that has samples, and moves no other margin.
    """
    counts = check_class_counts(class_counts).to(dtype)
    rarest = torch.where(counts > 0, counts, torch.inf).min()
    return check_number("max_margin", max_margin) * (rarest / torch.maximum(counts, rarest)) ** 0.25


def ldam_loss(
    input: Tensor,
    target: Tensor,
    *,
    class_counts: ClassCounts,
    max_margin: float = 0.5,
    scale: float = 30.0,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Label-distribution-aware margin loss, -Σ_c y_c log softmax(scale (cos - margin ⊙ y))_c.

    The margin lowers the cosine of the true class in training alone; a soft label shares it out in proportion.
    The released training script switches class weights on after 80 % of the epochs (DRW); a schedule is not
    part of this loss. Probabilities are softmax(scale · cos).

    Args:
        input: cosines (B, C) in [-1, 1] of a normalised head, any float dtype. Logits of a linear head cannot
            be told apart from cosines: they give no error, but a loss that is ``scale`` times too sharp.
        target: class indices (B,) or labels (B, C) in [0, 1]; a NaN label removes its term of the sum.
        class_counts: training samples per class, C whole numbers; zero is legal, see :func:`ldam_margins`.
        max_margin: margin >= 0 of the rarest class (0.5 in the released code).
        scale: factor >= 0 on cosines (30 in the released code).
        reduction: ``mean`` over samples with a known label, ``sum``, or ``none`` for (B,).
        ignore_index: class index that means unknown.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit.

    Reference:
        Cao, Wei, Gaidon, Arechiga, Ma: Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019, Eqs. 12 and 13.
    """
    check_common(reduction, ignore_index)
    check_number("scale", scale)
    cosine, y, known = prepare(input, target, ignore_index=ignore_index, coupled=True)
    margins = ldam_margins(class_counts, max_margin, cosine.dtype).to(cosine.device)
    if len(margins) != cosine.shape[1]:
        raise ValueError(
            f"expected input of shape (B, {len(margins)}) for {len(margins)} class counts, got {tuple(input.shape)}"
        )
    return reduce(-y * F.log_softmax(scale * (cosine - margins * y), dim=1), known, reduction)


class LDAMLoss(Loss):
    """LDAM: softmax cross-entropy on cosines with a larger margin for rarer classes.

    Arguments as in :func:`ldam_loss`; ``class_counts`` are required and kept as an int64 buffer (C,).
    """

    name: ClassVar[str] = "ldam"
    head: ClassVar[Head] = "normalised"
    link: ClassVar[Link] = "softmax"
    uses_class_counts: ClassVar[bool] = True

    class_counts: Tensor

    def __init__(
        self,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        if class_counts is None:
            raise ValueError(
                "expected class_counts, the training samples per class that ldam's margins need, got None"
            )
        self.max_margin = check_number("max_margin", max_margin)
        self.scale = self.logit_scale = check_number("scale", scale)
        self.register_buffer("class_counts", check_class_counts(class_counts).clone())

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ldam_loss(
            input,
            target,
            class_counts=self.class_counts,
            max_margin=self.max_margin,
            scale=self.scale,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
        )
