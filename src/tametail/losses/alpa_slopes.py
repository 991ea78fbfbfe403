"""The closed forms of ALPA, for the pass of `one_pass`: value and slope by z, without a graph.

Throughout p = sigmoid(z), r = 1-p, and a ratio R with A(p) = r R(p) is the Padé approximant of -log p about 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.numerics import ZERO, plain_power
from tametail.losses.pade import PadeRatio


class ALPASlopes(NamedTuple):
    """Variants paper (ratio None) and pade: P = a r^k R(p) and N = b p^m R(r) (λ - p), R and λ where given.

    a holds α and the paper's 1.5; k = 2γ+ + 1 and m = 2γ- + 1, or γ + 1 without the double focus.
    """

    weight_pos: float
    weight_neg: float
    power_pos: float
    power_neg: float
    ratio: PadeRatio | None
    lam: float | None

    @property
    def unit(self) -> float:
        # Not where positives weigh so much more that their values would overflow in it.
        return self.weight_neg if self.weight_neg > 1e-6 * self.weight_pos else 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """P' = -a p r^k (k R - r R')."""
        p, rest = torch.sigmoid(z), torch.neg(z).sigmoid_()
        value, inner, factor = self._with_ratio(plain_power(rest, self.power_pos), p, rest, self.power_pos)
        slope = torch.addcmul(ZERO, p, inner, value=-scale * self.weight_pos * factor)
        return value.mul_(self.weight_pos / self.unit), slope

    def negative(self, z: Tensor, scale: float, slope: Tensor) -> Tensor:
        """N' = b r p^m (m R(r) - p R'(r)) (λ - p) - b p^m R(r) p r."""
        p, rest = torch.sigmoid(z), torch.neg(z).sigmoid_()
        value, inner, factor = self._with_ratio(plain_power(p, self.power_neg), rest, p, self.power_neg)
        if self.lam is not None:
            hill = torch.rsub(p, self.lam)
            inner = torch.addcmul(inner * hill, value, p, value=-1 / factor)
            value = value * hill
        torch.addcmul(ZERO, rest, inner, value=scale * self.weight_neg * factor, out=slope)
        return value if self.unit == self.weight_neg else value.mul_(self.weight_neg)

    def _with_ratio(
        self, value: Tensor, at: Tensor, rest: Tensor, power: float
    ) -> tuple[Tensor, Tensor, float]:
        """From x^k to x^k R and x^k (k R - x R'), the latter over the returned factor.

        x is ``rest``; R and R' are taken at 1-x, ``at``.
        """
        if self.ratio is None:
            return value, value, power
        r = self.ratio(at)
        return value * r, torch.addcmul(r * power, rest, self.ratio.slope(at), value=-1).mul_(value), 1.0


class ALPACodeSlopes(NamedTuple):
    """Variant code: P = a q^γ+ r^k and N = b p^γ- w^m, with q = min(r + clip, 1) and w = max(p - clip, 0) = 1 - q.

    k = γ+ + 1 and m = γ- + 1, or 1 without the double focus.
    """

    weight_pos: float
    weight_neg: float
    gamma_pos: float
    gamma_neg: float
    power_pos: float
    power_neg: float
    clip: float
    unit: float = 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """P' = -a p q^γ+ r^k (k + γ+ r / q), the last part only where q < 1."""
        p, rest = torch.sigmoid(z), torch.neg(z).sigmoid_()
        value = plain_power(rest, self.power_pos).mul(self.weight_pos)
        inner = torch.full_like(p, self.power_pos)
        if self.gamma_pos:
            q = rest.add(self.clip).clamp_(max=1)
            value.mul_(plain_power(q, self.gamma_pos))
            moving = (p >= self.clip).to(p.dtype)
            inner.addcdiv_(rest.mul(moving), q, value=self.gamma_pos)
        return value, inner.mul_(p).mul_(value).mul_(-scale)

    def negative(self, z: Tensor, scale: float, slope: Tensor) -> Tensor:
        """N' = b p^γ- w^(m-1) r (γ- w + m p) where p > clip, else 0."""
        p, rest = torch.sigmoid(z), torch.neg(z).sigmoid_()
        w = F.softshrink(p, self.clip)
        last = plain_power(w, self.power_neg - 1) if self.power_neg > 1 else (w > 0).to(p.dtype)
        value = (last * plain_power(p, self.gamma_neg)).mul_(self.weight_neg)
        inner = rest.mul_(p.mul(self.power_neg).add_(w, alpha=self.gamma_neg)).mul_(scale)
        torch.mul(inner, value, out=slope)
        return value.mul_(w)
