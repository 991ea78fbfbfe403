"""LDAM: softmax cross-entropy on cosines with a larger margin for rarer classes.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Head, Loss, Reduction, functional
from tametail.losses.links import Family
from tametail.losses.validation import ClassCounts, check_class_counts, check_number


def ldam_margins(
    class_counts: ClassCounts, max_margin: float = 0.5, dtype: torch.dtype = torch.float64
) -> Tensor:
    """The margin of each class (C,), proportional to n^(-1/4), ``max_margin`` for the rarest class.

    A class with zero count has the margin of the rarest class that has samples, and moves no other margin.
    """
    counts = check_class_counts(class_counts).to(dtype)
    rarest = torch.where(counts > 0, counts, torch.inf).min()
    return check_number("max_margin", max_margin) * (rarest / torch.maximum(counts, rarest)) ** 0.25


class LDAMLoss(Loss):
    """LDAM: softmax cross-entropy on cosines with a larger margin for rarer classes.

    The margin lowers the cosine of the true class in training alone; a soft label shares it out in proportion.
    Probabilities are softmax(scale · cos): the usual reading, which at the loss's minimum is not the posterior.

    The input is the cosines (B, C) in [-1, 1] of a normalised head. Logits of a linear head cannot be told apart from
    cosines: they give no error, but a loss that is ``scale`` times too sharp.

    Deviations: the released training script switches class weights on after 80 % of the epochs (DRW); a schedule is
    not part of a loss.

    Use it with a normalised head and deferred re-weighting; alone it seldom helps rare classes.

    Args:
        max_margin: margin >= 0 of the rarest class (0.5 in the released code).
        scale: factor >= 0 on cosines (30 in the released code).
        class_counts: required; zero is legal, see :func:`ldam_margins`.
        tau, reduction, ignore_index: see :class:`Loss`; the prior is added to scale · cos.

    Reference:
        Cao, Wei, Gaidon, Arechiga, Ma: Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019, Eqs. 12 and 13.
    """

    name: ClassVar[str] = "ldam"
    formula: str = "-Σ_c y_c log softmax(scale (cos - margin y))_c, margin ∝ n^(-1/4)"
    family: Family = "softmax"
    head: ClassVar[Head] = "normalised"
    uses_class_counts: ClassVar[bool] = True
    exact_link: ClassVar[bool] = False

    def __init__(
        self,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        self.max_margin = check_number("max_margin", max_margin)
        self.scale = self.logit_scale = check_number("scale", scale)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        margins = ldam_margins(self.counts_for(z), self.max_margin, z.dtype)
        return -y * F.log_softmax(z - self.scale * margins * y, dim=1)


ldam_loss = functional("ldam_loss", LDAMLoss)
