"""Value and gradient of a loss with respect to one logit z, for a term with y = 1 and for one with y = 0.

:func:`gradient_curve` computes both for any loss; the other functions are the closed forms of the paper's gradient
analysis (Section 4.4, Figure 1), which are not its full losses.

Shape legend: N points of the grid. p = sigmoid(z) throughout.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss
from tametail.losses.numerics import log_clipped_complement, power

_DRAWS = 16  # over which a stochastic loss is averaged


class Curve(NamedTuple):
    """A loss as a function of one logit: its value and its derivative by z, each (N,) float64."""

    value: Tensor
    gradient: Tensor


def gradient_curve(loss: Loss, z: Tensor, *, positive: bool) -> Curve:
    """Value and gradient of a loss with respect to the logit of one class, by automatic differentiation in float64.

    For one sigmoid per class it is the term of the first class, whose logit is z. For a softmax it is the case of two
    classes with logits (z, 0), so that s = sigmoid(z), and the class of z is the target or is not. Logits are those of
    the formula: where the head returns cosines, z is a scaled cosine. Factors that a loss excludes from its gradient
    (``detach_focal_weight``) are excluded. For a stochastic loss it is the mean of 16 draws, and for a torch module the
    case of two classes whatever its family.

    Args:
        loss: any loss; if it has ``class_counts``, two of them for a softmax.
        z: grid (N,) of logits.
        positive: whether the label is 1.

    Raises:
        ValueError: z is not of shape (N,), or a softmax has counts for more than two classes.
    """
    if z.ndim != 1:
        raise ValueError(f"expected z of shape (N,), got {tuple(z.shape)}")
    loss = copy.deepcopy(loss).double()
    at = z.detach().double().requires_grad_()
    with torch.enable_grad():
        separate = loss.batchwise or loss.stochastic
        outputs = at / (loss.logit_scale or 1.0)  # a scale of 0 makes the loss constant whatever the outputs
        value = (_one_by_one if separate else _together)(loss, outputs, positive)
    return Curve(value.detach(), torch.autograd.grad(value.sum(), at)[0])


def _together(loss: Loss, z: Tensor, positive: bool) -> Tensor:
    """All points (N,) as one batch."""
    softmax, counts = loss.family == "softmax", loss.class_counts
    classes = 2 if softmax else 1 if counts is None else len(counts)
    logits = F.pad(z.unsqueeze(1), (0, classes - 1))
    target = torch.zeros_like(logits)
    target[:, 0 if positive else -1] = float(positive or softmax)
    terms = loss.terms(loss.adjusted(logits), target)
    return terms.sum(dim=1) if softmax else terms[:, 0]


def _one_by_one(loss: Loss, z: Tensor, positive: bool) -> Tensor:
    """Each point (N,) as a separate batch, with the same draws for all where the loss is stochastic."""
    target = torch.tensor([0 if positive else 1])
    batches = F.pad(z.unsqueeze(1), (0, 1)).unsqueeze(1)
    total = torch.zeros_like(z)
    draws = _DRAWS if loss.stochastic else 1
    with torch.random.fork_rng(devices=[]):
        for draw in range(draws):
            values = []
            for batch in batches:
                torch.default_generator.manual_seed(draw)
                values.append(loss(batch, target).sum())
            total = total + torch.stack(values)
    return total / draws


def alpa_described(z: Tensor, gamma_neg: float = 4.0) -> Curve:
    """ALPA's negative term as Section 4.4 has it: p^(γ- + 1), with gradient (γ- + 1) p^(γ- + 1) (1-p).

    It contains neither W nor β nor a clip. The gradient is largest at p = (γ- + 1) / (γ- + 2).
    """
    z = z.double()
    value = torch.exp((gamma_neg + 1) * F.logsigmoid(z))
    return Curve(value, (gamma_neg + 1) * value * torch.sigmoid(-z))


def asl_negative(z: Tensor, gamma_neg: float = 0.01, margin: float = 0.01) -> Curve:
    """ASL's negative term -(p_m)^γ- log(1 - p_m) with p_m = max(p - m, 0); by default as in the caption of Figure 1.

    Gradient: p (1-p) (p_m^γ- / (1 - p_m) - γ- p_m^(γ- - 1) log(1 - p_m)), and 0 where p <= m.
    """
    z = z.double()
    log_q = log_clipped_complement(z, margin)
    shifted = -torch.expm1(log_q)
    inside = shifted > 0
    safe = torch.where(inside, shifted, 1.0)
    weight = torch.where(inside, power(safe, gamma_neg), 0.0)
    by_p = weight * (torch.exp(-log_q) - gamma_neg * log_q / safe)
    return Curve(-weight * log_q, torch.sigmoid(z) * torch.sigmoid(-z) * by_p)


def cross_entropy_negative(z: Tensor) -> Curve:
    """Cross-entropy's negative term -log(1-p), with gradient p: ASL with m = 0 and γ- = 0."""
    return focal_negative(z, gamma=0.0)


def focal_negative(z: Tensor, gamma: float = 0.5) -> Curve:
    """Focal loss's negative term -p^γ log(1-p), without a balance factor; γ by default as in the caption of Figure 1.

    Gradient: p^γ (p - γ (1-p) log(1-p)).
    """
    z = z.double()
    weight, log_complement = torch.exp(gamma * F.logsigmoid(z)), F.logsigmoid(-z)
    return Curve(
        -weight * log_complement,
        weight * (torch.sigmoid(z) - gamma * torch.sigmoid(-z) * log_complement),
    )


def figure1(z: Tensor) -> dict[str, Curve]:
    """The four curves of the paper's Figure 1, negatives only, by names with the parameters of its caption."""
    return {
        "ALPA (γ⁻ = 4)": alpa_described(z, gamma_neg=4.0),
        "ASL (m = 0.01, γ⁻ = 0.01)": asl_negative(z, gamma_neg=0.01, margin=0.01),
        "CE (m = 0, γ⁻ = 0)": cross_entropy_negative(z),
        "Focal (γ = 0.5)": focal_negative(z, gamma=0.5),
    }
