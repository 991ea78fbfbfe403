"""ALPA: the asymmetric loss whose logarithm is replaced by a Padé approximant.

Shape legend: B batch, C classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.alpa_slopes import ALPACodeSlopes, ALPASlopes
from tametail.losses.base import Reduction, functional
from tametail.losses.links import Family
from tametail.losses.numerics import log_clipped_complement, power
from tametail.losses.one_pass import OnePassLoss
from tametail.losses.pade import PadeRatio, pade_ratio
from tametail.losses.validation import ClassCounts, check_choice, check_flag, check_number

Variant = Literal["paper", "code", "pade"]
Preset = Literal["v1", "v2", "v3"]


_FORMULAS: dict[str, str] = {
    "paper": "Σ_c 1.5 α y (1-p)^γ+ (1-p) W + β (1-y) p^γ- p W, W = (1-p)^γ+ where y = 1, p^γ- where y = 0",
    "code": "Σ_c 1.5 α y q^γ+ (1-p) W + β (1-y) p^γ- (1-q) W, q = min(1-p+clip, 1), W with q where y = 0",
    "pade": "Σ_c α y (1-p)^γ+ A(p) W + β (1-y) p^γ- A(1-p) W, A = [M/N] Padé approximant of -log about 1",
}


class _Hyper(NamedTuple):
    """All hyper-parameters of one ALPA loss, checked and with no defaults left open."""

    variant: str
    alpha: float
    beta: float
    gamma_pos: float
    gamma_neg: float
    lam: float | None
    clip: float
    ratio: PadeRatio | None
    double_focus: bool


# Section 6.1 of the paper: alpha, beta, gamma_pos, gamma_neg, lambda.
_PRESETS: dict[str, tuple[float, float, float, float, float | None]] = {
    "v1": (1.0, 1.0, 0.0, 4.0, None),
    "v2": (0.875, 1.625, 0.0, 4.0, None),
    "v3": (1.25, 2.0, 3.0, 2.0, 1.5),
}


class ALPALoss(OnePassLoss):
    """ALPA: asymmetric focusing of a Padé approximant of the logarithm (paper, code, pade).

    A sum over classes with p = sigmoid(z) and W = (1-p)^γ+ where y = 1, p^γ- where y = 0:

    ====== ==========================================================================================
    paper  1.5 α y (1-p)^γ+ (1-p) W + β (1-y) p^γ- p W: the negative of Eq. 11 with the printed
           coefficients, whose "Padé" forms are the straight lines 1.5 (1-p) and p
    code   1.5 α y q^γ+ (1-p) W + β (1-y) p^γ- (1-q) W, q = min(1-p+clip, 1) and W = (1-q)^γ- where
           y = 0: the released code. With clip 0 it is ``paper``. The clip leaks into the positives when
           γ+ > 0
    pade   α y (1-p)^γ+ A(p) W + β (1-y) p^γ- A(1-p) W, A the [M/N] Padé approximant of -log about 1,
           such as 2 (1-p) / (1+p) for [1/1]: what the paper describes, with exact coefficients
    ====== ==========================================================================================

    Deviations from the paper: the sign (Eq. 11 lacks the minus, the released code has it); ``mean`` divides by
    samples only (the released code sums over the batch: take ``reduction="sum"`` for its numbers). W focuses
    a second time, which the paper's gradient analysis (Section 4.4, Figure 1) leaves out, as
    ``double_focus=False`` does. A soft label mixes the positive and the negative term linearly.

    Where the gradient behaves badly: a hard positive is given up. With γ+ = 0 the slope by z of ``paper`` and
    ``code`` is -1.5 α p (1-p): -0.0087 at z = -5 and -8e-6 at z = -12 with α = 0.875, where cross-entropy has
    -1. ``pade`` of any finite order vanishes as well (-4 p for [1/1], α = 1): for p in [0.05, 0.95] its slope
    without focusing differs from cross-entropy's by up to 0.78 for [1/1], 0.18 for [4/4], 0.01 for [8/8]. So
    do not start the classifier's bias at the log prior, which is usual with focal loss: rare classes would
    never learn. Scores are not posteriors; ``paper`` saturates at p = 1 where a positive is likely enough:
    ``link`` undoes the minimiser below that and names the ceiling (0.918 with the defaults).

    Use it as the paper does, for single labels with a long tail; compare it with ``balanced_softmax``.

    Args:
        variant: one of the three above.
        preset: the paper's α, β, γ+, γ-: v1 = 1, 1, 0, 4; v2 = 0.875, 1.625, 0, 4 (its ALPA); v3 = 1.25, 2, 3, 2
            with the negative term times (λ - p), λ = 1.5, as in the Hill loss that it cites (its text, read
            literally, would reward confident false positives). v3 is absent from the released code.
        alpha: weight α >= 0 of positives; None takes the preset's, as with the next three.
        beta: weight β >= 0 of negatives.
        gamma_pos: focusing γ+ >= 0 of positives, fractions too.
        gamma_neg: focusing γ- >= 0 of negatives, fractions too.
        lam: λ >= 1 of the factor (λ - p); None leaves it to the preset. Not for ``code``.
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

    name: ClassVar[str] = "alpa"
    stackable: ClassVar[tuple[str, ...] | None] = (
        "alpha",
        "beta",
        "gamma_pos",
        "gamma_neg",
        "lam",
        "tau",
    )
    formula: str = _FORMULAS["paper"]
    family: Family = "sigmoid"

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
        tau: float = 0.0,
        class_counts: ClassCounts | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, reduction=reduction, ignore_index=ignore_index)
        hyper = _resolve(variant, preset, alpha, beta, gamma_pos, gamma_neg, lam, clip, order, double_focus)
        self._resolved = hyper
        self.formula = _FORMULAS[variant]
        self.variant, self.preset, self.order = variant, preset, order
        self.alpha, self.beta, self.gamma_pos, self.gamma_neg = (
            hyper.alpha,
            hyper.beta,
            hyper.gamma_pos,
            hyper.gamma_neg,
        )
        self.lam, self.clip, self.double_focus = hyper.lam, clip, double_focus

    @property
    def _hyper(self) -> _Hyper:
        return self._resolved._replace(
            alpha=self.alpha, beta=self.beta, gamma_pos=self.gamma_pos, gamma_neg=self.gamma_neg, lam=self.lam
        )

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        hyper = self._hyper
        positive, negative = _code_terms(z, hyper) if hyper.variant == "code" else _unclipped_terms(z, hyper)
        if hyper.lam is not None:
            negative = negative * (hyper.lam - torch.sigmoid(z))
        return hyper.alpha * y * positive + hyper.beta * (1 - y) * negative

    def slopes(self) -> ALPASlopes | ALPACodeSlopes:
        hyper = self._hyper
        focus = 2 if hyper.double_focus else 1
        if hyper.variant == "code" and hyper.clip > 0:
            again = focus - 1
            return ALPACodeSlopes(
                1.5 * hyper.alpha,
                hyper.beta,
                hyper.gamma_pos,
                hyper.gamma_neg,
                again * hyper.gamma_pos + 1,
                again * hyper.gamma_neg + 1,
                hyper.clip,
            )
        return ALPASlopes(
            hyper.alpha * (1.5 if hyper.ratio is None else 1.0),
            hyper.beta,
            focus * hyper.gamma_pos + 1,
            focus * hyper.gamma_neg + 1,
            hyper.ratio,
            hyper.lam,
        )


alpa_loss = functional("alpa_loss", ALPALoss)


def _unclipped_terms(z: Tensor, hyper: _Hyper) -> tuple[Tensor, Tensor]:
    """Variants paper and pade without their weights: powers of (1-p) and of p, taken in log space."""
    focus = 2 if hyper.double_focus else 1
    positive = torch.exp((focus * hyper.gamma_pos + 1) * F.logsigmoid(-z))
    negative = torch.exp((focus * hyper.gamma_neg + 1) * F.logsigmoid(z))
    if hyper.ratio is None:
        return 1.5 * positive, negative
    return positive * hyper.ratio(torch.sigmoid(z)), negative * hyper.ratio(torch.sigmoid(-z))


def _code_terms(z: Tensor, hyper: _Hyper) -> tuple[Tensor, Tensor]:
    """Variant code without its weights: q stands for 1-p in all places but the line 1.5 (1-p) and its W."""
    log_q = log_clipped_complement(z, hyper.clip)
    again_pos, again_neg = (hyper.gamma_pos, hyper.gamma_neg) if hyper.double_focus else (0.0, 0.0)
    positive = torch.exp(hyper.gamma_pos * log_q + (again_pos + 1) * F.logsigmoid(-z))
    negative = torch.exp(hyper.gamma_neg * F.logsigmoid(z)) * power(-torch.expm1(log_q), again_neg + 1)
    return 1.5 * positive, negative


def _resolve(
    variant: str,
    preset: str,
    alpha: float | None,
    beta: float | None,
    gamma_pos: float | None,
    gamma_neg: float | None,
    lam: float | None,
    clip: float | None,
    order: tuple[int, int] | None,
    double_focus: bool,
) -> _Hyper:
    """Fill in what is None from preset and variant, and check everything."""
    check_choice("variant", variant, get_args(Variant))
    check_choice("preset", preset, get_args(Preset))
    check_flag("double_focus", double_focus)
    if variant != "code" and clip is not None:
        raise ValueError(f"expected clip only with variant code, got clip={clip!r} with variant {variant}")
    if variant != "pade" and order is not None:
        raise ValueError(f"expected order only with variant pade, got order={order!r} with variant {variant}")
    if variant == "code" and (lam is not None or preset == "v3"):
        raise ValueError("expected preset v1 or v2 and no lam with variant code: the released code has no v3")
    defaults = _PRESETS[preset]
    lam = defaults[4] if lam is None else lam
    return _Hyper(
        variant=variant,
        alpha=check_number("alpha", defaults[0] if alpha is None else alpha),
        beta=check_number("beta", defaults[1] if beta is None else beta),
        gamma_pos=check_number("gamma_pos", defaults[2] if gamma_pos is None else gamma_pos),
        gamma_neg=check_number("gamma_neg", defaults[3] if gamma_neg is None else gamma_neg),
        lam=None if lam is None else check_number("lam", lam, 1),
        clip=check_number("clip", 0.05 if clip is None else clip, 0, 1),
        ratio=pade_ratio((1, 1) if order is None else order) if variant == "pade" else None,
        double_focus=double_focus,
    )
