"""ALPA: the asymmetric loss whose logarithm is replaced by a Padé approximant."""

from __future__ import annotations

from typing import Literal, NamedTuple, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, functional
from tametail.losses.numerics import ZERO, log_clipped_complement, plain_power, power
from tametail.losses.one_pass import OnePassLoss
from tametail.losses.pade import PadeRatio, pade_ratio
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_choice, check_flag, check_number

Variant = Literal["paper", "code", "pade"]
Preset = Literal["v1", "v2", "v3"]

_FORMULAS: dict[Variant, str] = {
    "paper": "Σ_c 1.5 α y (1-p)^γ+ (1-p) W + β (1-y) p^γ- p W, W = (1-p)^γ+ where y = 1, p^γ- where y = 0",
    "code": "Σ_c 1.5 α y q^γ+ (1-p) W + β (1-y) p^γ- (1-q) W, q = min(1-p+clip, 1), W with q where y = 0",
    "pade": "Σ_c α y (1-p)^γ+ A(p) W + β (1-y) p^γ- A(1-p) W, A = [M/N] Padé approximant of -log about 1",
}
# Section 6.1 of the paper: alpha, beta, gamma_pos, gamma_neg, lambda.
_PRESETS: dict[Preset, tuple[float, float, float, float, float | None]] = {
    "v1": (1.0, 1.0, 0.0, 4.0, None),
    "v2": (0.875, 1.625, 0.0, 4.0, None),
    "v3": (1.25, 2.0, 3.0, 2.0, 1.5),
}


@register_loss
class ALPALoss(OnePassLoss):
    """ALPA: asymmetric focusing of a Padé approximant of the logarithm (paper, code, pade).

    A sum over classes with p = sigmoid(z) and W = (1-p)^γ+ where y = 1, p^γ- where y = 0:

    ====== ==========================================================================================
    paper  1.5 α y (1-p)^γ+ (1-p) W + β (1-y) p^γ- p W: the negative of Eq. 11 as printed
    code   1.5 α y q^γ+ (1-p) W + β (1-y) p^γ- (1-q) W, q = min(1-p+clip, 1) and W = (1-q)^γ- where
           y = 0: the released code. With clip 0 it is ``paper``
    pade   α y (1-p)^γ+ A(p) W + β (1-y) p^γ- A(1-p) W, A the [M/N] Padé approximant of -log about 1,
           such as 2 (1-p) / (1+p) for [1/1]: what the paper describes, with exact coefficients
    ====== ==========================================================================================

    Deviations from the paper: the sign (Eq. 11 lacks the minus, the released code has it); ``mean`` divides by
    samples only (the released code sums over the batch: use ``reduction="sum"`` for its numbers). W focuses
    a second time, which the paper's gradient analysis (Section 4.4, Figure 1) leaves out, as
    ``double_focus=False`` does. A soft label mixes the positive and the negative term linearly.

    Hard positives are ignored: with γ+ = 0 the gradient of ``paper`` and ``code`` with respect to z is
    -1.5 α p (1-p), -0.0087 at z = -5 with α = 0.875, where cross-entropy has -1; ``pade`` of any finite order
    vanishes as well. So do not initialise the classifier's bias with the log prior, which is usual with focal loss.
    Scores are not posteriors; ``paper`` saturates at p = 1 where a positive is likely enough: ``link`` inverts the
    minimiser below that and reports the ceiling (0.918 with the defaults).

    Use it as the paper does, for single labels with a long tail; compare it with ``balanced_softmax``.

    Args:
        variant: one of the three above.
        preset: the paper's α, β, γ+, γ-: v1 = 1, 1, 0, 4; v2 = 0.875, 1.625, 0, 4 (its ALPA); v3 = 1.25, 2, 3, 2
            with the negative term times (λ - p), λ = 1.5, as in the Hill loss that it cites (its text, read
            literally, would reward confident false positives). v3 is absent from the released code.
        alpha: weight α >= 0 of positives; None takes the preset's, as with the next three.
        beta: weight β >= 0 of negatives.
        gamma_pos: focusing γ+ >= 0 of positives, not necessarily an integer.
        gamma_neg: focusing γ- >= 0 of negatives, not necessarily an integer.
        lam: λ >= 1 of the factor (λ - p); None takes the preset's. Not for ``code``.
        clip: probability margin in [0, 1), for ``code`` alone (0.05 there).
        order: (M, N) of the approximant, M from 1 and N from 0 to 8, for ``pade`` alone ((1, 1) there).
        double_focus: False leaves W out.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Raises:
        TypeError, ValueError: as all losses, or a parameter of another variant.

    Reference:
        Taming the Tail: Leveraging Asymmetric Loss and Padé Approximation to Overcome Medical Image Long-Tailed
        Class Imbalance, BMVC 2024, Eq. 11 and Section 6.1; released code ipankhi/ALPA.
    """

    name = "alpa"
    formula = _FORMULAS["paper"]
    family = "sigmoid"
    stackable = True

    def __init__(
        self,
        *,
        variant: Variant = "paper",
        preset: Preset = "v2",
        alpha: float | None = None,
        beta: float | None = None,
        gamma_pos: float | None = None,
        gamma_neg: float | None = None,
        lam: float | None = None,
        clip: float | None = None,
        order: tuple[int, int] | None = None,
        double_focus: bool = True,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(**common)
        check_choice("variant", variant, get_args(Variant))
        check_choice("preset", preset, get_args(Preset))
        check_flag("double_focus", double_focus)
        if variant != "code" and clip is not None:
            raise ValueError(
                f"expected clip only with variant code, got clip={clip!r} with variant {variant}"
            )
        if variant != "pade" and order is not None:
            raise ValueError(
                f"expected order only with variant pade, got order={order!r} with variant {variant}"
            )
        if variant == "code" and (lam is not None or preset == "v3"):
            raise ValueError(
                "expected preset v1 or v2 and no lam with variant code: the released code has no v3"
            )
        of_preset = _PRESETS[preset]
        lam = of_preset[4] if lam is None else lam
        self.variant, self.preset, self.order, self.double_focus = variant, preset, order, double_focus
        self.alpha = check_number("alpha", of_preset[0] if alpha is None else alpha)
        self.beta = check_number("beta", of_preset[1] if beta is None else beta)
        self.gamma_pos = check_number("gamma_pos", of_preset[2] if gamma_pos is None else gamma_pos)
        self.gamma_neg = check_number("gamma_neg", of_preset[3] if gamma_neg is None else gamma_neg)
        self.lam = None if lam is None else check_number("lam", lam, 1)
        self.clip = None if clip is None else check_number("clip", clip, 0, 1)
        self.formula = _FORMULAS[variant]
        self._ratio = pade_ratio((1, 1) if order is None else order) if variant == "pade" else None

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        if self.variant == "code":
            positive, negative = self._code_terms(z)
        else:
            positive, negative = self._unclipped_terms(z)
        if self.lam is not None:
            negative = negative * (self.lam - torch.sigmoid(z))
        return self.alpha * y * positive + self.beta * (1 - y) * negative

    def _unclipped_terms(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Variants paper and pade without their weights: powers of 1-p and of p, computed in log space."""
        focus = 2 if self.double_focus else 1
        positive = torch.exp((focus * self.gamma_pos + 1) * F.logsigmoid(-z))
        negative = torch.exp((focus * self.gamma_neg + 1) * F.logsigmoid(z))
        if self._ratio is None:
            return 1.5 * positive, negative
        return positive * self._ratio(torch.sigmoid(z)), negative * self._ratio(torch.sigmoid(-z))

    def _code_terms(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Variant code without its weights: q replaces 1-p except in the line 1.5 (1-p) and its W."""
        log_q = log_clipped_complement(z, self._code_clip)
        again_pos, again_neg = (self.gamma_pos, self.gamma_neg) if self.double_focus else (0.0, 0.0)
        positive = torch.exp(self.gamma_pos * log_q + (again_pos + 1) * F.logsigmoid(-z))
        negative = torch.exp(self.gamma_neg * F.logsigmoid(z)) * power(-torch.expm1(log_q), again_neg + 1)
        return 1.5 * positive, negative

    @property
    def _code_clip(self) -> float:
        return 0.05 if self.clip is None else self.clip

    def closed_form(self) -> _ClosedForm | _CodeClosedForm:
        focus = 2 if self.double_focus else 1
        if self.variant == "code" and self._code_clip > 0:
            return _CodeClosedForm(
                1.5 * self.alpha,
                self.beta,
                self.gamma_pos,
                self.gamma_neg,
                (focus - 1) * self.gamma_pos + 1,
                (focus - 1) * self.gamma_neg + 1,
                self._code_clip,
            )
        return _ClosedForm(
            self.alpha * (1.5 if self._ratio is None else 1.0),
            self.beta,
            focus * self.gamma_pos + 1,
            focus * self.gamma_neg + 1,
            self._ratio,
            self.lam,
        )


alpa_loss = functional("alpa_loss", ALPALoss)


class _ClosedForm(NamedTuple):
    """Variants paper (ratio None) and pade: P = a r^k R(p) and N = b p^m R(r) (λ - p), R and λ where given.

    r = 1-p, and R with A(p) = r R(p) is the ratio of the Padé approximant A of -log about 1. a contains α and the
    paper's 1.5; k = 2γ+ + 1 and m = 2γ- + 1, or γ + 1 without the double focus.
    """

    weight_pos: float
    weight_neg: float
    power_pos: float
    power_neg: float
    ratio: PadeRatio | None
    lam: float | None

    @property
    def unit(self) -> float:
        # Not where positives have a so much larger weight that their values would overflow in this unit.
        return self.weight_neg if self.weight_neg > 1e-6 * self.weight_pos else 1.0

    def positive(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """P' = -a p r^k (k R - r R')."""
        p, rest = torch.sigmoid(z), torch.neg(z).sigmoid_()
        value, inner, factor = self._with_ratio(plain_power(rest, self.power_pos), p, rest, self.power_pos)
        gradient = torch.addcmul(ZERO, p, inner, value=-scale * self.weight_pos * factor)
        return value.mul_(self.weight_pos / self.unit), gradient

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """N' = b r p^m (m R(r) - p R'(r)) (λ - p) - b p^m R(r) p r."""
        p, rest = torch.sigmoid(z), torch.neg(z).sigmoid_()
        value, inner, factor = self._with_ratio(plain_power(p, self.power_neg), rest, p, self.power_neg)
        if self.lam is not None:
            hill = torch.rsub(p, self.lam)
            inner = torch.addcmul(inner * hill, value, p, value=-1 / factor)
            value = value * hill
        torch.addcmul(ZERO, rest, inner, value=scale * self.weight_neg * factor, out=gradient)
        return value if self.unit == self.weight_neg else value.mul_(self.weight_neg)

    def _with_ratio(
        self, value: Tensor, at: Tensor, rest: Tensor, power: float
    ) -> tuple[Tensor, Tensor, float]:
        """From x^k to x^k R and x^k (k R - x R'), the latter divided by the returned factor.

        x is ``rest``; R and R' are evaluated at 1-x, which is ``at``.
        """
        if self.ratio is None:
            return value, value, power
        r = self.ratio(at)
        return value * r, torch.addcmul(r * power, rest, self.ratio.derivative(at), value=-1).mul_(value), 1.0


class _CodeClosedForm(NamedTuple):
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

    def negative(self, z: Tensor, scale: float, gradient: Tensor) -> Tensor:
        """N' = b p^γ- w^(m-1) r (γ- w + m p) where p > clip, else 0."""
        p, rest = torch.sigmoid(z), torch.neg(z).sigmoid_()
        w = F.softshrink(p, self.clip)
        last = plain_power(w, self.power_neg - 1) if self.power_neg > 1 else (w > 0).to(p.dtype)
        value = (last * plain_power(p, self.gamma_neg)).mul_(self.weight_neg)
        inner = rest.mul_(p.mul(self.power_neg).add_(w, alpha=self.gamma_neg)).mul_(scale)
        torch.mul(inner, value, out=gradient)
        return value.mul_(w)
