"""Weighted cross-entropy (weighted_ce): each sample has the inverse frequency of its class as its weight."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, ReductionParameters, functional
from tametail.losses.links import proportional
from tametail.losses.registry import register_loss
from tametail.losses.terms import prepare, prepare_indices, reduce, reduce_samples
from tametail.losses.validation import ClassCounts, check_class_counts, check_number


def inverse_frequency_weights(class_counts: ClassCounts, power: float = 1.0) -> Tensor:
    """Weights (C,) float64: (n / (C n_c))^power, with n the number of samples and n_c that of class c.

    With ``power=1`` they are scikit-learn's ``class_weight="balanced"``. A class without samples counts as if it had one.
    """
    counts = check_class_counts(class_counts).double()
    return (counts.sum() / (len(counts) * counts.clamp(min=1))) ** check_number("power", power)


@register_loss
class WeightedCrossEntropyLoss(Loss):
    """Weighted cross-entropy: softmax cross-entropy weighted by the inverse frequency of each class.

    Equal to ``torch.nn.CrossEntropyLoss(weight=inverse_frequency_weights(class_counts))`` for class indices in value
    and gradient, for every reduction: ``mean`` divides by the sum of the samples' weights, not by their number. So a
    sample's share of the loss depends on the other samples of its batch. With equal counts it is cross-entropy.

    Deviations: for labels (B, C) torch divides by the number of samples; here index and one-hot form agree.

    Use it as the baseline for re-weighting; ``class_balanced`` and ``balanced_softmax`` are its successors.

    Args:
        class_counts: training samples per class, required.
        power: exponent >= 0 of the inverse frequency; 0.5 is the inverse square root, 0 is cross-entropy.
        tau, reduction, ignore_index: see :class:`Loss`.
    """

    name = "weighted_ce"
    formula = "-Σ_c w_c y_c log s_c / Σ w_y, w_c = (n / (C n_c))^power"
    family = "softmax"
    batchwise = True
    uses_class_counts = True

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        power: float = 1.0,
        tau: float = 0.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.power = check_number("power", power)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.reduction != "mean":
            return super().forward(input, target)
        if self._takes_indices(target):
            z, index, known_samples = prepare_indices(input, target, ignore_index=self.ignore_index)
            of_sample = self._weights(z)[index]
            weight = (of_sample if known_samples is None else of_sample * known_samples).sum()
            total = reduce_samples(self.of_indices(self.adjusted(z), index), known_samples, "sum")
        else:
            z, y, known = prepare(input, target, ignore_index=self.ignore_index, coupled=True)
            weight = (y * self._weights(z)).sum()
            total = reduce(self.terms(self.adjusted(z), y), known, "sum")
        return total / torch.where(weight > 0, weight, 1.0)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return -self._weights(z) * y * F.log_softmax(z, dim=1)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        return self._weights(z)[index] * F.cross_entropy(z, index, reduction="none")

    def posterior(self, z: Tensor) -> Tensor:
        """The softmax divided by the weights, as weighting a class amounts to more samples of it; rows sum to one."""
        return proportional(torch.softmax(z, dim=1) / self._weights(z))

    def _weights(self, like: Tensor) -> Tensor:
        return inverse_frequency_weights(self.counts_for(like), self.power).to(like.dtype)


weighted_cross_entropy_loss = functional("weighted_cross_entropy_loss", WeightedCrossEntropyLoss)
