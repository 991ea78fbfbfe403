"""Single-label asymmetric loss (asl_single_label): asymmetric focusing of a softmax."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, Loss, functional
from tametail.losses.links import proportional
from tametail.losses.numerics import log_complement_softmax, true_class
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class AsymmetricSingleLabelLoss(Loss):
    """Single-label ASL: label-smoothed cross-entropy with a focusing weight on each of its terms.

    The true class's term has the weight (1-s)^γ+, each other class's the weight s^γ-. Other classes have a term only
    because of the smoothing: without it γ- has no effect, and γ+ = 0 gives cross-entropy. A soft label mixes the two
    kinds of terms linearly.

    Use it as a small change to label smoothing; it rarely helps on long tails.

    Args:
        gamma_pos: γ+ >= 0 (0 in the released code).
        gamma_neg: γ- >= 0 (4 in the released code).
        label_smoothing: ε in [0, 1) (0.1 in the released code): y becomes (1 - ε) y + ε / C.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Ridnik et al., ICCV 2021; class ASLSingleLabel of the released code Alibaba-MIIL/ASL.
    """

    name = "asl_single_label"
    stackable = True
    formula = "-Σ_c y'_c w_c log s_c, w = (1-s)^γ+ where y = 1, s^γ- where y = 0, y' smoothed"
    family = "softmax"

    def __init__(
        self,
        *,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        label_smoothing: float = 0.1,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.gamma_pos = check_number("gamma_pos", gamma_pos)
        self.gamma_neg = check_number("gamma_neg", gamma_neg)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        log_s = F.log_softmax(z, dim=1)
        positive = torch.exp(self.gamma_pos * log_complement_softmax(log_s)) * log_s
        negative = torch.exp(self.gamma_neg * log_s) * log_s
        share_pos, share_neg = self._shares(z.shape[1])
        return -y * share_pos * positive - (1 - y) * share_neg * negative

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        log_s = F.log_softmax(z, dim=1)
        own = log_s.gather(1, index.unsqueeze(1)).squeeze(1)
        others = (torch.exp(self.gamma_neg * log_s) * log_s).sum(dim=1) - torch.exp(
            self.gamma_neg * own
        ) * own
        positive = -own
        if self.gamma_pos:
            cost, log_rest = true_class(z, index)
            positive = torch.exp(self.gamma_pos * log_rest) * cost
        share_pos, share_neg = self._shares(z.shape[1])
        return share_pos * positive - share_neg * others

    def posterior(self, z: Tensor) -> Tensor:
        """The η whose expected loss is least at s.

        With f' and g' the derivatives by s of the true class's term and of the others', the minimum on the simplex has
        η f' + (1-η) g' = -λ for every class; that the η sum to one gives λ.
        """
        log_s = F.log_softmax(z, dim=1)
        log_rest = log_complement_softmax(log_s)
        s = torch.exp(log_s)
        share_pos, share_neg = self._shares(z.shape[1])
        # Both derivatives times s, which is finite where s is 0.
        by_s_pos = torch.exp(self.gamma_pos * log_rest)
        if self.gamma_pos:
            by_s_pos = by_s_pos - self.gamma_pos * s * torch.exp((self.gamma_pos - 1) * log_rest) * log_s
        by_s_pos = -share_pos * by_s_pos
        by_s_neg = -share_neg * torch.exp(self.gamma_neg * log_s) * (self.gamma_neg * log_s + 1)
        difference = (by_s_pos - by_s_neg).clamp(max=-torch.finfo(z.dtype).tiny)
        # η = -(λ s + by_s_neg) / difference
        level = (1 + (by_s_neg / difference).sum(dim=1, keepdim=True)) / -(s / difference).sum(
            dim=1, keepdim=True
        )
        posterior = (-(level * s + by_s_neg) / difference).clamp(min=0)
        return proportional(posterior)

    def _shares(self, classes: int) -> tuple[float, float]:
        """Weight of the true class and of each other class after smoothing."""
        return 1 - self.label_smoothing + self.label_smoothing / classes, self.label_smoothing / classes

    def has_plain_link(self) -> bool:
        return self.gamma_pos == 0 and self.label_smoothing == 0


asymmetric_single_label_loss = functional("asymmetric_single_label_loss", AsymmetricSingleLabelLoss)
