"""Asymmetric loss (asl): separate focusing of positives and negatives, easy negatives ignored."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, functional
from tametail.losses.numerics import ZERO, log_clipped_complement, plain_power, power
from tametail.losses.one_pass import OnePassLoss
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_flag, check_number

# For clips at least as large, 1 - (p - clip) is precise in float32.
_WIDE_CLIP = 0.02


@register_loss
class AsymmetricLoss(OnePassLoss):
    """Asymmetric loss (ASL): focal loss with separate focusing for negatives, easy negatives ignored.

    q = min(1-p+clip, 1) replaces 1-p in the negative term: a negative with p <= clip costs nothing and has no
    gradient. A soft label mixes the two terms linearly. With all three hyper-parameters 0 it is binary cross-entropy.

    Deviations: the released code sums over the batch; it treats the focusing weight as a constant in the backward pass
    (``detach_focal_weight=True`` here: same value, different gradient); and it clamps probabilities at 1e-8, so that the
    gradient of a positive is exactly 0 from z = -19 down, where it is most wrong. This one does not clamp.

    Use it for several labels per image out of many classes.

    Args:
        gamma_pos: γ+ >= 0 (1 in the released code).
        gamma_neg: γ- >= 0 (4 in the paper).
        clip: probability margin in [0, 1) (0.05 in the paper).
        detach_focal_weight: treat the focusing weights as constants in the gradient.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor: Asymmetric Loss for Multi-Label
        Classification, ICCV 2021, Eqs. 3 to 5.
    """

    name = "asl"
    stackable = True
    formula = "Σ_c -y (1-p)^γ+ log p - (1-y) (1-q)^γ- log q, q = min(1-p+clip, 1)"
    family = "sigmoid"

    def __init__(
        self,
        *,
        gamma_pos: float = 1.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        detach_focal_weight: bool = False,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        self.gamma_pos = check_number("gamma_pos", gamma_pos)
        self.gamma_neg = check_number("gamma_neg", gamma_neg)
        self.clip = check_number("clip", clip, 0, 1)
        check_flag("detach_focal_weight", detach_focal_weight)
        self.detach_focal_weight = detach_focal_weight

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        log_q = log_clipped_complement(z, self.clip)
        weight_pos = torch.exp(self.gamma_pos * F.logsigmoid(-z))
        weight_neg = power(-torch.expm1(log_q), self.gamma_neg)
        if self.detach_focal_weight:
            weight_pos, weight_neg = weight_pos.detach(), weight_neg.detach()
        return -y * weight_pos * F.logsigmoid(z) - (1 - y) * weight_neg * log_q

    def closed_form(self) -> AsymmetricClosedForm:
        return AsymmetricClosedForm(self.gamma_pos, self.gamma_neg, self.clip, self.detach_focal_weight)


asymmetric_loss = functional("asymmetric_loss", AsymmetricLoss)


class AsymmetricClosedForm(NamedTuple):
    """P = -(1-p)^γ+ log p and N = -w^γ- log x, with x = min(1-p+clip, 1), w = 1-x and p' = p (1-p).

    In float32 the gradients of negatives are accurate to about 1e-6 of the largest one.
    """

    gamma_pos: float
    gamma_neg: float
    clip: float
    detach_focal_weight: bool
    unit: float = 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """P' = (1-p)^γ+ (γ+ p log p - (1-p)); the first part comes from the focusing weight."""
        minus_z = z.neg()
        cost = torch.logaddexp(ZERO, minus_z)  # -log p; F.logsigmoid would start all threads for a single row
        rest = minus_z.sigmoid_()
        focus = plain_power(rest, self.gamma_pos)
        gradient = rest.mul(-scale)
        if self.gamma_pos and not self.detach_focal_weight:
            gradient.addcmul_(torch.sigmoid(z), cost, value=-self.gamma_pos * scale)
        return focus * cost, gradient.mul_(focus)

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """N' = p' (w^γ- / x - γ- w^(γ- - 1) log x) where p > clip, else 0; the second part comes from the focusing weight."""
        if self.clip == 0:
            return self._unclipped(z, scale, gradient)
        p = torch.sigmoid(z)
        w = F.softshrink(p, self.clip)  # max(p - clip, 0)
        log_x = w.neg()
        x = log_x + 1
        log_x.log1p_()
        if self.clip < _WIDE_CLIP:
            p = torch.sigmoid(-z)  # p (1-p) is symmetric in p and 1-p, and here 1-p must be precise
            x = p.add(self.clip).clamp_(max=1)
            log_x = torch.where(w < 0.5, log_x, x.log())
        if self.gamma_neg < 1 or self.detach_focal_weight:
            value, outer = self._slowly(w, x, log_x, scale)
        else:  # in place, so that a tile needs few buffers
            focus = plain_power(w, self.gamma_neg - 1)
            ratio = torch.div(w, x, out=x).sub_(log_x, alpha=self.gamma_neg)
            outer = torch.addcmul(ZERO, ratio, focus, value=scale, out=x)
            value = torch.addcmul(ZERO, log_x.mul_(focus), w, value=-1, out=log_x)
        torch.ops.aten.sigmoid_backward.grad_input(outer, p, grad_input=gradient)
        return value

    def _slowly(self, w: Tensor, x: Tensor, log_x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """N and ``scale`` N' / p' for every γ-: w^(γ- - 1) may have no limit at 0, but log x / w has the limit -1."""
        active = w > 0
        focus = plain_power(w, self.gamma_neg)
        outer = active / x
        if self.gamma_neg and not self.detach_focal_weight:
            outer.add_(torch.where(active, log_x / w, -1.0), alpha=-self.gamma_neg)
        return (focus * log_x).neg_(), outer.mul_(focus).mul_(scale)

    def _unclipped(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """N = -p^γ- log(1-p), N' = p^γ- (p - γ- (1-p) log(1-p)): precise also where p is close to 0 or 1."""
        p, log_rest = torch.sigmoid(z), F.logsigmoid(-z)
        focus = plain_power(p, self.gamma_neg)
        torch.mul(p, focus, out=gradient)
        value = focus * log_rest
        if self.gamma_neg and not self.detach_focal_weight:
            gradient.addcmul_(torch.sigmoid(-z), value, value=-self.gamma_neg)
        gradient.mul_(scale)
        return value.neg_()
