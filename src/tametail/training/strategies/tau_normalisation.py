"""τ-normalisation (taunorm): class weights of one length.

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
from tametail.training.strategies.after_training import NewHead


@dataclass(frozen=True)
class TauNormalisation(NewHead):
    """z_c = x · w_c / ‖w_c‖^τ, without bias: frequent classes lose what the length of their weights gives them.

    All weights are multiplied by the geometric mean of the lengths to the power τ. That changes no decision, and keeps
    the logits of the size that the loss made them.

    Deviations: the paper chooses τ on held-out images; here 1 is the default, and other values are asked for.

    Attributes:
        tau: τ >= 0; 0 leaves the lengths alone, 1 makes them all alike.

    Reference:
        Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis: Decoupling Representation and Classifier for Long-Tailed
        Recognition, ICLR 2020, Eq. 4.
    """

    name: ClassVar[str] = "taunorm"
    summary: ClassVar[str] = "class weights of one length, no bias; trains nothing"
    source: ClassVar[str] = "Kang et al., ICLR 2020"
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau)

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        if kind != "linear":
            raise UsageError(
                f"expected a linear head for taunorm, got the {kind} one, in which all class weights count as of one "
                f"length already; leave taunorm out, or use crt, lws or ncm"
            )
        return nn.Linear(features, classes, bias=False)

    def fit(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        if not isinstance(head, nn.Linear):
            raise UsageError(f"expected a linear head for taunorm, got {type(head).__name__}; leave it out")
        classes, width = head.weight.shape
        new: nn.Linear = nn.utils.skip_init(nn.Linear, width, classes, bias=False)
        with torch.no_grad():
            new.weight.copy_(tau_normalised(head.weight, self.tau))
        return new


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """Weights (C, D) over their lengths to the power ``tau``, times the geometric mean length to that power.

    A weight of length 0 stays 0, and has no part in the mean.
    """
    log_lengths = torch.linalg.vector_norm(weight.double(), dim=1, keepdim=True).log()
    some = log_lengths.isfinite()
    mean = torch.where(some, log_lengths, 0.0).sum() / some.sum().clamp(min=1)
    factor = torch.where(some, tau * (mean - log_lengths), 0.0).exp()
    return (weight * factor).to(weight.dtype)
