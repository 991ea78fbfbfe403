"""Balanced softmax (balanced_softmax): cross-entropy with the log prior added to the logits during training."""

from __future__ import annotations

from tametail.losses.base import functional
from tametail.losses.logit_adjusted import LogitAdjustedLoss
from tametail.losses.registry import register_loss


@register_loss
class BalancedSoftmaxLoss(LogitAdjustedLoss):
    """Balanced softmax: logit-adjusted cross-entropy with τ = 1.

    It equals :class:`LogitAdjustedLoss` in everything but its name, which is that of another paper.

    Deviations: released code adds log counts, not log frequencies, which is the same under a softmax.

    Use it first where classes are unbalanced and recall of rare classes matters.

    Args:
        tau: strength τ >= 0 of the prior (1 in the paper).
        class_counts: training samples per class, required.
        reduction, ignore_index: see :class:`Loss`.

    Reference:
        Ren, Yu, Sheng, Ma, Zhao, Yi, Li: Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020,
        Eq. 3.
    """

    name = "balanced_softmax"
    stackable = True


balanced_softmax_loss = functional("balanced_softmax_loss", BalancedSoftmaxLoss)
