"""Losses whose point is the prior inside: balanced_softmax and logit_adjusted.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, Reduction, functional
from tametail.losses.links import Family
from tametail.losses.validation import ClassCounts


class LogitAdjustedLoss(Loss):
    """Logit-adjusted cross-entropy: the log prior is added to the logits in training alone.

    Predict by the largest logit *without* the prior: with τ = 1 that is the best rule for balanced accuracy. ``link``
    adds the prior again and gives the posterior of the population that was trained on.

    Deviations: a public benchmark has the sign of the prior inverted, which helps the head; released code takes log 0
    for a class without samples, here such a class counts as if it had one.

    Use it first where classes are unbalanced and recall of rare classes matters.

    Args:
        tau: strength τ >= 0 of the prior (1 in the paper); 0 is cross-entropy.
        class_counts: training samples per class, required.
        reduction, ignore_index: see :class:`Loss`.

    Reference:
        Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-Tail Learning via Logit Adjustment, ICLR 2021, Eq. 10.
    """

    name: ClassVar[str] = "logit_adjusted"
    stackable: ClassVar[tuple[str, ...] | None] = ("tau",)
    formula: str = "-Σ_c y_c log softmax(z + τ log prior)_c"
    family: Family = "softmax"
    uses_class_counts: ClassVar[bool] = True

    def __init__(
        self,
        *,
        tau: float = 1.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return -y * F.log_softmax(z, dim=1)


logit_adjusted_loss = functional("logit_adjusted_loss", LogitAdjustedLoss)


class BalancedSoftmaxLoss(LogitAdjustedLoss):
    """Balanced softmax: logit-adjusted cross-entropy with the whole prior, τ = 1.

    Arguments and use as for :class:`LogitAdjustedLoss`, which it equals; it has its own name as it has its own paper.

    Deviations: released code adds log counts, not log shares, which is the same under a softmax.

    Use it first where classes are unbalanced and recall of rare classes matters.

    Args:
        tau: strength τ >= 0 of the prior (1 in the paper).
        class_counts: training samples per class, required.
        reduction, ignore_index: see :class:`Loss`.

    Reference:
        Ren, Yu, Sheng, Ma, Zhao, Yi, Li: Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020,
        Eq. 3.
    """

    name: ClassVar[str] = "balanced_softmax"
    stackable: ClassVar[tuple[str, ...] | None] = ("tau",)


balanced_softmax_loss = functional("balanced_softmax_loss", BalancedSoftmaxLoss)
