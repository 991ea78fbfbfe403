"""Softmax equalisation loss (seql): rare classes are randomly left out of the softmax of other classes' samples."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, ReductionParameters, functional
from tametail.losses.registry import register_loss
from tametail.losses.validation import ClassCounts, check_number


@register_loss
class SoftmaxEqualizationLoss(Loss):
    """Softmax equalisation loss (SEQL): rare classes receive less gradient from other classes' samples.

    -Σ_c y_c log(e^z_c / Σ_k w_k e^z_k) with w_k = 1 - b (1-y_k) for classes rarer than the threshold and 1 for others,
    b drawn for every term: 1 with probability γ, else 0. In evaluation mode (``eval()``) no class is left out. Random
    numbers come from torch's global generator. Where a sample would lose all classes, it keeps them all.

    Deviations: the threshold is a fraction of the training samples; that of the released code was chosen for a thousand
    classes (0.0018) and has no effect where the rarest class has one per cent.

    Use it with many classes of which most are rare. The link is the plain softmax, which is not the posterior here.

    Args:
        gamma: γ in [0, 1], the probability of leaving a rare class out (0.9 in the paper).
        threshold: classes with a smaller fraction of the samples are rare, in [0, 1); None: 0.5 / C.
        class_counts: training samples per class, required; a class without samples is rare.
        tau, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Tan, Wang, Li, Li, Ouyang, Yin, Yan: Equalization Loss for Long-Tailed Object Recognition, CVPR 2020, Eq. 7.
    """

    name = "seql"
    formula = "-Σ_c y_c log(e^z_c / Σ_k w_k e^z_k), w_k = 1 - b_k [share_k < threshold] (1-y_k)"
    family = "softmax"
    stochastic = True
    uses_class_counts = True
    exact_link = False

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        gamma: float = 0.9,
        threshold: float | None = None,
        tau: float = 0.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.gamma = check_number("gamma", gamma)
        if self.gamma > 1:
            raise ValueError(f"expected gamma in [0, 1], got {gamma!r}")
        self.threshold = None if threshold is None else check_number("threshold", threshold, 0, 1)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        kept = self._kept(z, y)
        kept = torch.where((kept > 0).any(dim=1, keepdim=True), kept, 1.0)
        weighted = z + kept.log()
        # Relative to the largest logit: as a difference of large numbers the loss would lose precision.
        top = weighted.detach().amax(dim=1, keepdim=True)
        return -y * (z - top - torch.logsumexp(weighted - top, dim=1, keepdim=True))

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        left_out = self._left_out(z)
        if left_out is not None:
            left_out = left_out.scatter(1, index.unsqueeze(1), False)
            z = z.masked_fill(left_out, torch.finfo(z.dtype).min)
        return F.cross_entropy(z, index, reduction="none")

    def _kept(self, z: Tensor, y: Tensor) -> Tensor:
        """w (B, C)."""
        left_out = self._left_out(z)
        return torch.ones_like(y) if left_out is None else torch.where(left_out, y, 1.0)

    def _left_out(self, z: Tensor) -> Tensor | None:
        """The drawn classes (B, C), which count only where they are positive; None where all count."""
        if not self.training:
            return None
        counts = self.counts_for(z).to(z.dtype)
        threshold = 0.5 / z.shape[1] if self.threshold is None else self.threshold
        rare = counts / counts.sum() < threshold
        return rare & (torch.rand_like(z) < self.gamma)


softmax_equalization_loss = functional("softmax_equalization_loss", SoftmaxEqualizationLoss)
