"""LADE (lade): balanced softmax with a regulariser that pulls logits towards log density ratios."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from tametail.losses.base import ReductionParameters, functional
from tametail.losses.logit_adjusted import LogitAdjustedLoss
from tametail.losses.numerics import log_prior
from tametail.losses.registry import register_loss
from tametail.losses.terms import prepare, prepare_indices, reduce, reduce_samples
from tametail.losses.validation import ClassCounts, check_class_counts, check_number


def lade_regulariser(
    logits: Tensor,
    labels: Tensor,
    class_counts: ClassCounts,
    remine_lambda: float = 0.1,
    counted: Tensor | None = None,
) -> Tensor:
    """R = -Σ_c prior_c [mean of z_c over the samples of class c - L_c - remine_lambda L_c²].

    L_c is the log of the batch mean of exp(z_c - log prior_c - log C). The first part of a class that is absent from
    the batch is 0. A soft label weights the mean.

    Args:
        logits: z (B, C).
        labels: (B, C) in [0, 1].
        class_counts: training samples per class (C,).
        remine_lambda: weight of the square >= 0.
        counted: (B, 1) samples to include, all of them when None; the labels of the others must be 0.
    """
    if counted is None:
        counted = torch.ones_like(logits[:, :1], dtype=torch.bool)
    per_class = labels.sum(dim=0)
    own = (labels * logits).sum(dim=0) / torch.where(per_class > 0, per_class, 1.0)
    return _regulariser(logits, own, check_class_counts(class_counts), remine_lambda, counted)


def _regulariser(
    logits: Tensor, own: Tensor, class_counts: Tensor, remine_lambda: float, counted: Tensor | None
) -> Tensor:
    """R from the mean logit of each class over its samples, ``own`` (C,); all samples are included where counted is None."""
    shift = log_prior(class_counts.to(logits.device), logits.dtype)
    level: float | Tensor = math.log(max(len(logits), 1))
    spread = logits
    if counted is not None:
        inside = counted | ~counted.any(dim=0, keepdim=True)  # an empty batch must not become the log of 0
        spread = torch.where(inside, logits, -torch.inf)
        level = inside.sum(dim=0).clamp(min=1).to(logits.dtype).log()
    level = torch.logsumexp(spread, dim=0) - (shift + math.log(logits.shape[1])) - level
    return -(shift.exp() * (own - level - remine_lambda * level**2)).sum()


@register_loss
class LADELoss(LogitAdjustedLoss):
    """LADE: balanced softmax plus a regulariser of the batch that pulls logits towards log density ratios.

    CE(z + τ log prior) + weight · R, see :func:`lade_regulariser`. Every known sample of the batch has the same R, so
    that ``mean`` is the mean cross-entropy plus weight · R. It may be negative.

    Deviations: released code adds 1e-9 to priors and 1e-8 to counts; here a class without samples counts as if it had
    one. R is the estimate of a batch: in small batches most rare classes are absent from it.

    Use it where class frequencies at test time are known to differ, with large batches.

    Args:
        weight: of R, >= 0 (0.1 in the released code).
        remine_lambda: weight of the square within R, >= 0 (0.1 in the released code).
        tau: strength τ >= 0 of the prior in the cross-entropy (1 in the paper).
        class_counts: training samples per class, required.
        reduction, ignore_index: see :class:`Loss`.

    Reference:
        Hong, Han, Choi, Seo, Kim, Chang: Disentangling Label Distribution for Long-Tailed Visual Recognition, CVPR
        2021, Eqs. 8 to 10.
    """

    name = "lade"
    formula = "-Σ_c y_c log softmax(z + τ log prior)_c + weight R"
    batchwise = True
    exact_link = False

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        weight: float = 0.1,
        remine_lambda: float = 0.1,
        tau: float = 1.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(class_counts, tau=tau, **common)
        self.weight = check_number("weight", weight)
        self.remine_lambda = check_number("remine_lambda", remine_lambda)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self._takes_indices(target):
            z, index, known_samples = prepare_indices(input, target, ignore_index=self.ignore_index)
            shared = self.weight * self._regulariser(z, index, known_samples)
            return reduce_samples(
                self.of_indices(self.adjusted(z), index) + shared, known_samples, self.reduction
            )
        z, y, known = prepare(input, target, ignore_index=self.ignore_index, coupled=True)
        return reduce(self.terms(self.adjusted(z), y) + self._shared(z, y, known), known, self.reduction)

    def _regulariser(self, z: Tensor, index: Tensor, known: Tensor | None) -> Tensor:
        """R for class indices (B,), of samples that are known (B,); None for all."""
        own, samples = z.gather(1, index.unsqueeze(1)).squeeze(1), torch.ones_like(z[:, 0])
        if known is not None:
            own, samples = torch.where(known, own, 0.0), known.to(z.dtype)
        sums, per_class = (z.new_zeros(z.shape[1]).index_add(0, index, each) for each in (own, samples))
        counted = None if known is None else known.unsqueeze(1)
        means = sums / per_class.clamp(min=1)
        return _regulariser(z, means, self.counts_for(z), self.remine_lambda, counted)

    def _shared(self, z: Tensor, y: Tensor, known: Tensor) -> Tensor:
        """The share of weight · R of each known term (B, C), so that the terms of a sample add up to weight · R."""
        per_sample = known.sum(dim=1, keepdim=True)
        regulariser = lade_regulariser(z, y, self.counts_for(z), self.remine_lambda, per_sample > 0)
        return self.weight * regulariser / per_sample.clamp(min=1)


lade_loss = functional("lade_loss", LADELoss)
