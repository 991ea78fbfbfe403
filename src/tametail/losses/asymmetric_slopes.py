"""The closed forms of the asymmetric loss, for the pass of `one_pass`: value and slope by z, without a graph.

In float32 the slopes of negatives are right to about 1e-6 of the largest one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.numerics import ZERO, plain_power

# From this clip up, 1 - (p - clip) keeps its digits in float32.
_WIDE_CLIP = 0.02


class AsymmetricSlopes(NamedTuple):
    """P = -(1-p)^γ+ log p and N = -w^γ- log x, with x = min(1-p+clip, 1), w = 1-x and p' = p (1-p)."""

    gamma_pos: float
    gamma_neg: float
    clip: float
    detach_focal_weight: bool
    unit: float = 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """P' = (1-p)^γ+ (γ+ p log p - (1-p)); the first part is the focusing weight's."""
        minus_z = z.neg()
        cost = torch.logaddexp(ZERO, minus_z)  # -log p; for one row F.logsigmoid would wake every thread
        rest = minus_z.sigmoid_()
        focus = plain_power(rest, self.gamma_pos)
        slope = rest.mul(-scale)
        if self.gamma_pos and not self.detach_focal_weight:
            slope.addcmul_(torch.sigmoid(z), cost, value=-self.gamma_pos * scale)
        return focus * cost, slope.mul_(focus)

    def negative(self, z: Tensor, scale: float, slope: Tensor) -> Tensor:
        """N' = p' (w^γ- / x - γ- w^(γ- - 1) log x) where p > clip, else 0; the second part is the weight's."""
        if self.clip == 0:
            return self._unclipped(z, scale, slope)
        p = torch.sigmoid(z)
        w = F.softshrink(p, self.clip)  # max(p - clip, 0)
        log_x = w.neg()
        x = log_x + 1
        log_x.log1p_()
        if self.clip < _WIDE_CLIP:
            p = torch.sigmoid(-z)  # p (1-p) is the same of 1-p, which here is the one to know well
            x = p.add(self.clip).clamp_(max=1)
            log_x = torch.where(w < 0.5, log_x, x.log())
        if self.gamma_neg < 1 or self.detach_focal_weight:
            value, outer = self._slowly(w, x, log_x, scale)
        else:  # in place, so that a tile needs few buffers
            focus = plain_power(w, self.gamma_neg - 1)
            ratio = torch.div(w, x, out=x).sub_(log_x, alpha=self.gamma_neg)
            outer = torch.addcmul(ZERO, ratio, focus, value=scale, out=x)
            value = torch.addcmul(ZERO, log_x.mul_(focus), w, value=-1, out=log_x)
        torch.ops.aten.sigmoid_backward.grad_input(outer, p, grad_input=slope)
        return value

    def _slowly(self, w: Tensor, x: Tensor, log_x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """N and ``scale`` N' / p' for every γ-: w^(γ- - 1) need not have a limit at 0, but log x / w has, -1."""
        active = w > 0
        focus = plain_power(w, self.gamma_neg)
        outer = active / x
        if self.gamma_neg and not self.detach_focal_weight:
            outer.add_(torch.where(active, log_x / w, -1.0), alpha=-self.gamma_neg)
        return (focus * log_x).neg_(), outer.mul_(focus).mul_(scale)

    def _unclipped(self, z: Tensor, scale: float, slope: Tensor) -> Tensor:
        """N = -p^γ- log(1-p), N' = p^γ- (p - γ- (1-p) log(1-p)): precise where p is next to 0 or 1."""
        p, log_rest = torch.sigmoid(z), F.logsigmoid(-z)
        focus = plain_power(p, self.gamma_neg)
        torch.mul(p, focus, out=slope)
        value = focus * log_rest
        if self.gamma_neg and not self.detach_focal_weight:
            slope.addcmul_(torch.sigmoid(-z), value, value=-self.gamma_neg)
        slope.mul_(scale)
        return value.neg_()
