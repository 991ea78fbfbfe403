"""Hill loss (hill): the most wrong negatives are down-weighted, as their labels may be missing."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.asymmetric import AsymmetricClosedForm
from tametail.losses.base import CommonParameters, functional
from tametail.losses.one_pass import OnePassLoss
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_number


@register_loss
class HillLoss(OnePassLoss):
    """Hill loss: a negative's cost is a squared error that flattens where the label is probably missing.

    pm = sigmoid(z - margin) moves the focusing of positives to harder ones. A soft label mixes the two terms linearly.
    With λ = 1.5 the gradient of a negative vanishes at p = 1: a confident false positive is ignored, by design.

    Deviations: the released code takes log(pm) unclamped: in float32 it is infinite for z <= -87.8, with a NaN
    gradient, for negatives too (0 times infinity). It sums over the batch.

    Use it where labels are missing, so that many negatives are actually positives.

    Args:
        lam: λ >= 1 (1.5 in the paper).
        margin: >= 0 (1 in the paper).
        gamma: focusing of positives >= 0 (2 in the paper).
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Zhang, Cheng, Huang, Wen, Feng, Li, Guo: Simple and Robust Loss Design for Multi-Label Learning with Missing
        Labels, arXiv:2112.07368, 2021; released code xinyu1205/robust-loss-mlml.
    """

    name = "hill"
    stackable = True
    formula = "Σ_c -y (1-pm)^γ log pm + (1-y) (λ-p) p^2, pm = sigmoid(z - margin)"
    family = "sigmoid"

    def __init__(
        self,
        *,
        lam: float = 1.5,
        margin: float = 1.0,
        gamma: float = 2.0,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.lam = check_number("lam", lam, 1)
        self.margin = check_number("margin", margin)
        self.gamma = check_number("gamma", gamma)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        p, shifted = torch.sigmoid(z), z - self.margin
        positive = -torch.exp(self.gamma * F.logsigmoid(-shifted)) * F.logsigmoid(shifted)
        return y * positive + (1 - y) * (self.lam - p) * p**2

    def closed_form(self) -> _ClosedForm:
        return _ClosedForm(self.lam, self.margin, self.gamma)


hill_loss = functional("hill_loss", HillLoss)


class _ClosedForm(NamedTuple):
    """P is that of asl at z - margin, N = (λ - p) p²."""

    lam: float
    margin: float
    gamma: float
    unit: float = 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        return AsymmetricClosedForm(self.gamma, 0.0, 0.0, False).positive(z - self.margin, scale)

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """N' = p² (1-p) (2 λ - 3 p)."""
        p = torch.sigmoid(z)
        value = torch.rsub(p, self.lam).mul_(p).mul_(p)
        inner = p.mul(-3 * scale).add_(2 * self.lam * scale).mul_(p)
        torch.ops.aten.sigmoid_backward.grad_input(inner, p, grad_input=gradient)
        return value
