"""τ-normalisation (taunorm): class weights of equal norm.

Shape legend: C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tametail.core.errors import UsageError
from tametail.losses import Loss
from tametail.losses.validation import check_number
from tametail.models.heads import Head
from tametail.training.strategies.strategy import Strategy, register_strategy


@register_strategy
@dataclass(frozen=True)
class TauNormalisation(Strategy):
    """Tau-normalised classifier: class weights of equal norm, no bias; trains nothing.

    z_c = x · w_c / ‖w_c‖^τ, so that frequent classes lose the advantage of their larger norms. All weights are
    multiplied by the geometric mean of the norms to the power τ, which changes no decision and keeps the scale of the
    logits.

    Deviations: the paper selects τ on held-out images; here it is a parameter with default 1.

    Attributes:
        tau: τ >= 0; 0 leaves the norms unchanged, 1 makes them equal.

    Reference:
        Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis: Decoupling Representation and Classifier for Long-Tailed
        Recognition, ICLR 2020, Eq. 4.
    """

    name: ClassVar[str] = "taunorm"
    source: ClassVar[str] = "Kang et al., ICLR 2020"
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau)

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        if kind != "linear":
            raise UsageError(
                f"expected a linear head for taunorm, got the {kind} one, whose class weights have equal norms "
                f"already; leave taunorm out, or use crt, lws or ncm"
            )
        return nn.Linear(features, classes, bias=False)

    def fit_head(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        if not isinstance(head, nn.Linear):
            raise UsageError(f"expected a linear head for taunorm, got {type(head).__name__}; leave it out")
        classes, width = head.weight.shape
        new: nn.Linear = nn.utils.skip_init(nn.Linear, width, classes, bias=False)
        with torch.no_grad():
            new.weight.copy_(tau_normalised(head.weight, self.tau))
        return new


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """Divide weights (C, D) by their norms to the power ``tau``, and multiply by the geometric mean norm to that power.

    A weight of norm 0 stays 0 and is left out of the mean.
    """
    log_norms = torch.linalg.vector_norm(weight.double(), dim=1, keepdim=True).log()
    nonzero = log_norms.isfinite()
    mean = torch.where(nonzero, log_norms, 0.0).sum() / nonzero.sum().clamp(min=1)
    factor = torch.where(nonzero, tau * (mean - log_norms), 0.0).exp()
    return (weight * factor).to(weight.dtype)
