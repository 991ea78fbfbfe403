"""Vector-scaling loss (vs): cross-entropy with logits scaled and shifted per class during training.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, ReductionParameters, functional
from tametail.losses.registry import register_loss
from tametail.losses.validation import ClassCounts, check_number


@register_loss
class VectorScalingLoss(Loss):
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
    family = "softmax"
    uses_class_counts = True

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        gamma: float = 0.3,
        tau: float = 1.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.gamma = check_number("gamma", gamma)

    def adjusted(self, z: Tensor) -> Tensor:
        counts = self.counts_for(z).clamp(min=1).to(z.dtype)
        return super().adjusted(z * (counts / counts.max()) ** self.gamma)

    def decision(self, input: Tensor) -> Tensor:
        """The head's own logits, which is the paper's rule: (log posterior - τ log prior), Δ times that per class."""
        return super().decision(input)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return -y * F.log_softmax(z, dim=1)


vector_scaling_loss = functional("vector_scaling_loss", VectorScalingLoss)
