"""Vector-scaling loss (vs): cross-entropy with logits scaled and shifted per class during training."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from tametail.losses.base import ReductionParameters, functional
from tametail.losses.logit_adjusted import LogitAdjustedLoss
from tametail.losses.registry import register_loss
from tametail.losses.validation import ClassCounts, check_number


@register_loss
class VectorScalingLoss(LogitAdjustedLoss):
    """Vector-scaling loss: the logits of rarer classes are divided by more, and the log prior is added.

    Δ_c = (n_max / n_c)^γ divides the logit of class c during training only, so that a rare class needs larger
    logits; predict by the largest logit. ``link`` applies Δ and the prior again and gives the posterior of the
    population that was trained on. With γ = 0 it is logit_adjusted. A class without samples counts as if it had one.

    Use it where logit adjustment alone stops helping: when training far beyond zero training error.

    Args:
        gamma: γ >= 0 (0.3 in the released code's experiments).
        tau: strength τ >= 0 of the prior (1 there).
        class_counts: training samples per class, required.
        reduction, ignore_index: see :class:`Loss`.

    Reference:
        Kini, Paraskevas, Oymak, Thrampoulidis: Label-Imbalanced and Group-Sensitive Classification under
        Overparameterization, NeurIPS 2021, Eq. 2.
    """

    name = "vs"
    stackable = True
    formula = "-Σ_c y_c log softmax(z / Δ + τ log prior)_c, Δ = (n_max / n)^γ"

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        gamma: float = 0.3,
        tau: float = 1.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(class_counts, tau=tau, **common)
        self.gamma = check_number("gamma", gamma)

    def adjusted(self, z: Tensor) -> Tensor:
        counts = self.counts_for(z).clamp(min=1).to(z.dtype)
        return super().adjusted(z * (counts / counts.max()) ** self.gamma)

    def decision(self, input: Tensor) -> Tensor:
        """The head's own logits, which is the paper's rule: (log posterior - τ log prior), Δ times that per class."""
        return super().decision(input)


vector_scaling_loss = functional("vector_scaling_loss", VectorScalingLoss)
