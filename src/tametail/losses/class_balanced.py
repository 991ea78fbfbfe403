"""Class-balanced loss (class_balanced): a base loss whose samples are weighted by the effective number of their class."""

from __future__ import annotations

import math
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor

from tametail.losses.base import Loss, ReductionParameters, functional
from tametail.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from tametail.losses.cross_entropy import CrossEntropyLoss
from tametail.losses.focal import FocalLoss
from tametail.losses.links import Family, proportional
from tametail.losses.registry import register_loss
from tametail.losses.validation import ClassCounts, check_choice, check_class_counts, check_number

ClassBalancedBase = Literal["ce", "bce", "focal"]


def class_balanced_weights(class_counts: ClassCounts, beta: float = 0.9999) -> Tensor:
    """Weights (C,) float64 proportional to (1-β) / (1-β^n), scaled to sum to C.

    A class without samples counts as if it had one.
    """
    check_number("beta", beta, 0, 1)
    counts = check_class_counts(class_counts).clamp(min=1).double()
    log_beta = math.log(beta) if beta else -math.inf
    weights = -1 / torch.expm1(counts * log_beta)
    return weights * (len(counts) / weights.sum())


@register_loss
class ClassBalancedLoss(Loss):
    """Class-balanced loss: cross-entropy, BCE or focal loss, weighted by the effective number of samples.

    All of a sample's terms have the weight of its class; a sample with several labels has the mean of their weights,
    one with none the weight 1. With equal counts it is its base. Its link assumes one label per sample.

    Deviations: public implementations fail with a TypeError (``weights=`` for ``weight=``), apply BCE to a softmax, return
    NaN at saturation, and divide by the number of positives, whereas ``mean`` here divides by samples.

    Use it to see the effect of re-weighting alone; ``beta`` moves it from no weights (0) to inverse frequency (near 1).

    Args:
        base: ``ce``, ``bce``, or ``focal`` (without balance factors).
        beta: β in [0, 1) (0.9999 in the paper's main experiments).
        gamma: γ >= 0 of the focal base (2); the others do not use it.
        class_counts: training samples per class, required.
        tau, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Cui, Jia, Lin, Song, Belongie: Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, Eq. 3.
    """

    name = "class_balanced"
    formula = "w_y base(z, y), w ∝ (1-β) / (1-β^n)"
    family: Family = "softmax"  # with base ce
    uses_class_counts = True

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        base: ClassBalancedBase = "ce",
        beta: float = 0.9999,
        gamma: float = 2.0,
        tau: float = 0.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        check_choice("base", base, get_args(ClassBalancedBase))
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.base: ClassBalancedBase = base
        self.beta = check_number("beta", beta, 0, 1)
        self.gamma = check_number("gamma", gamma)
        self._base: Loss = (
            CrossEntropyLoss()
            if base == "ce"
            else BinaryCrossEntropyLoss()
            if base == "bce"
            else FocalLoss(alpha=None, gamma=self.gamma)
        )
        self.family = self._base.family

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        positives = y.sum(dim=1, keepdim=True)
        weighted = (y * self._weights(z)).sum(dim=1, keepdim=True)
        some = positives > 0
        weight = torch.where(some, weighted / torch.where(some, positives, 1.0), 1.0)
        return weight * self._base.terms(z, y)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        base = self._base
        costs = (
            base.of_indices(z, index)
            if base._by_index
            else base.terms(z, torch.zeros_like(z).scatter(1, index.unsqueeze(1), 1.0)).sum(dim=1)
        )
        return self._weights(z)[index] * costs

    def posterior(self, z: Tensor) -> Tensor:
        """The base's posterior divided by the weights, as weighting a class amounts to more samples of it; rows sum to one."""
        return proportional(self._base.posterior(z) / self._weights(z))

    def _range(self) -> tuple[bool, float]:
        return True, 1.0

    def _weights(self, like: Tensor) -> Tensor:
        return class_balanced_weights(self.counts_for(like), self.beta).to(like.dtype)


class_balanced_loss = functional("class_balanced_loss", ClassBalancedLoss)
