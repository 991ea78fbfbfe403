"""LDAM: softmax cross-entropy on cosines with a larger margin for rarer classes."""

from __future__ import annotations

import warnings
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.losses.base import Loss, ReductionParameters, functional
from tametail.losses.registry import register_loss
from tametail.losses.validation import ClassCounts, check_class_counts, check_number

_LARGEST_COSINE = 1.05  # rounding in half precision included


class NormalisedLinear(nn.Module):
    """Cosines between features and class weights: (B, D) → (B, C), values in [-1, 1]; the loss supplies the scale."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        return cosines(features, self.weight)


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    """Cosines (B, C) between features (B, D) and class weights (C, D)."""
    return F.linear(F.normalize(features, dim=-1), F.normalize(weight, dim=-1))


def ldam_margins(
    class_counts: ClassCounts, max_margin: float = 0.5, dtype: torch.dtype = torch.float64
) -> Tensor:
    """The margin of each class (C,), proportional to n^(-1/4), ``max_margin`` for the rarest class.

    A class without samples has the margin of the rarest class with samples, and does not change the other margins.
    """
    counts = check_class_counts(class_counts).to(dtype)
    rarest = torch.where(counts > 0, counts, torch.inf).min()
    return check_number("max_margin", max_margin) * (rarest / torch.maximum(counts, rarest)) ** 0.25


@register_loss
class LDAMLoss(Loss):
    """LDAM: softmax cross-entropy on cosines with a larger margin for rarer classes.

    The margin lowers the cosine of the true class during training only; a soft label splits it in proportion.
    Probabilities are softmax(scale · cos), as usual; at the loss's minimum they are not the posterior.

    The input is the cosines (B, C) of a normalised head, :class:`NormalisedLinear`. Logits of a linear head would be
    scaled by ``scale``: values outside [-1, 1] give a warning, once per loss.

    Deviations: the released training script adds class weights after 80 % of the epochs (DRW); a schedule is not part
    of a loss.

    Use it with a normalised head and deferred re-weighting; alone it rarely helps rare classes.

    Args:
        max_margin: margin >= 0 of the rarest class (0.5 in the released code).
        scale: factor >= 0 on cosines (30 in the released code).
        class_counts: training samples per class, required; zero is legal, see :func:`ldam_margins`.
        tau, reduction, ignore_index: see :class:`Loss`; the prior is added to scale · cos.

    Reference:
        Cao, Wei, Gaidon, Arechiga, Ma: Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019, Eqs. 12 and 13.
    """

    name = "ldam"
    formula = "-Σ_c y_c log softmax(scale (cos - margin y))_c, margin ∝ n^(-1/4)"
    family = "softmax"
    head = "normalised"
    uses_class_counts = True
    exact_link = False

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        tau: float = 0.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.max_margin = check_number("max_margin", max_margin)
        self.scale = self.logit_scale = check_number("scale", scale)
        self._checked = False

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if isinstance(input, Tensor) and not (self._checked or torch.compiler.is_compiling()):
            self._check_cosines(input.detach().abs())
        return super().forward(input, target)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        margins = ldam_margins(self.counts_for(z), self.max_margin, z.dtype)
        return -y * F.log_softmax(z - self.scale * margins * y, dim=1)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        margins = ldam_margins(self.counts_for(z), self.max_margin, z.dtype)
        lowered = z.scatter_add(1, index.unsqueeze(1), -self.scale * margins[index].unsqueeze(1))
        return F.cross_entropy(lowered, index, reduction="none")

    def _check_cosines(self, sizes: Tensor) -> None:
        """Warn of absolute values (B, C) above one, once; on a GPU only the first batch is checked, as that takes time."""
        try:
            found = bool((sizes > _LARGEST_COSINE).any())
        except RuntimeError:  # inside vmap a tensor has no single truth value
            return
        self._checked = found or sizes.device.type != "cpu"
        if found:
            warnings.warn(
                f"LDAMLoss expects the cosines of a normalised head, in [-1, 1], but got values of size "
                f"{sizes.max().item():.3g}; replace the last linear layer by tametail.losses.NormalisedLinear",
                stacklevel=5,
            )


ldam_loss = functional("ldam_loss", LDAMLoss)
