"""Logit-adjusted cross-entropy (logit_adjusted): the log prior is added to the logits during training."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, ReductionParameters, functional
from tametail.losses.registry import register_loss
from tametail.losses.validation import ClassCounts


@register_loss
class LogitAdjustedLoss(Loss):
    """Logit-adjusted cross-entropy: the log prior is added to the logits during training only.

    Predict by the largest logit *without* the prior: with τ = 1 that is the best rule for balanced accuracy. ``link``
    adds the prior again and gives the posterior of the population that was trained on.

    Deviations: a public benchmark has the wrong sign of the prior, which favours frequent classes; released code takes log 0
    for a class without samples, here such a class counts as if it had one.

    Use it first where classes are unbalanced and recall of rare classes matters.

    Args:
        tau: strength τ >= 0 of the prior (1 in the paper); 0 is cross-entropy.
        class_counts: training samples per class, required.
        reduction, ignore_index: see :class:`Loss`.

    Reference:
        Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-Tail Learning via Logit Adjustment, ICLR 2021, Eq. 10.
    """

    name = "logit_adjusted"
    stackable = True
    formula = "-Σ_c y_c log softmax(z + τ log prior)_c"
    family = "softmax"
    uses_class_counts = True

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        tau: float = 1.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return -y * F.log_softmax(z, dim=1)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(z, index, reduction="none")


logit_adjusted_loss = functional("logit_adjusted_loss", LogitAdjustedLoss)
