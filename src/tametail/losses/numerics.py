"""Powers and logarithms of probabilities with finite values and gradients everywhere, and the log prior of classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# torch.addcmul(ZERO, a, b, value=c) is the product of three in one operation.
ZERO = torch.zeros(())


def log_clipped_complement(logits: Tensor, clip: float | Tensor) -> Tensor:
    """log q with q = min(1 - p + clip, 1) and p = sigmoid(logits): the shifted probability of a negative.

    In log space, so that neither q = 0 (clip 0, saturated logit) nor a tiny clip divides by zero.
    """
    log_complement = F.logsigmoid(-logits)
    if isinstance(clip, Tensor):
        shift = clip.log()
    elif clip == 0:
        return log_complement
    else:
        shift = log_complement.new_full((), math.log(clip))
    return torch.logaddexp(log_complement, shift).clamp(max=0.0)


def power(base: Tensor, exponent: float | Tensor) -> Tensor:
    """base ** exponent for base >= 0 and exponent >= 0, with gradient 0 (never infinite or NaN) where base is 0."""
    positive = base > torch.finfo(base.dtype).tiny
    if isinstance(exponent, Tensor):
        of_zero = torch.where(exponent == 0, 1.0, 0.0)
    elif exponent == 0:
        return torch.ones_like(base)
    else:
        of_zero = base.new_zeros(())
    return torch.where(positive, torch.where(positive, base, 1.0) ** exponent, of_zero)


def plain_power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent for base >= 0 and exponent >= 0, without a gradient; ``base`` itself where the exponent is 1.

    Integer exponents are computed by multiplication: torch computes squares and cubes as products, any other power by a
    logarithm and an exponential.
    """
    if exponent == 0:
        return torch.ones_like(base)
    if exponent != int(exponent) or exponent > 64:
        return base.pow(exponent)
    rest, power, product = int(exponent), base, None
    while rest > 1:
        factor = 3 if rest % 3 == 0 else 2
        if rest % factor:
            product, rest = power if product is None else product * power, rest - 1
        else:  # in place, but not where a tensor is still needed
            power = power.pow(factor) if power is base or power is product else power.pow_(factor)
            rest //= factor
    return power if product is None else product * power


def log_complement_softmax(log_s: Tensor) -> Tensor:
    """log(1 - s) for s = softmax (B, C) given by its logarithm, without loss of precision where s is close to 1.

    There 1 - s is the sum of the other classes. It is clamped at the smallest normal number, so that a class with
    probability 1 gives a finite value and a gradient of 0.
    """
    scaled = torch.exp(log_s - log_s.detach().amax(dim=1, keepdim=True))
    largest = torch.zeros_like(log_s, dtype=torch.bool).scatter(1, log_s.argmax(dim=1, keepdim=True), True)
    total = scaled.sum(dim=1, keepdim=True)
    others = torch.where(largest, 0.0, scaled).sum(dim=1, keepdim=True)
    complement = torch.where(largest, others, total - scaled).clamp(min=torch.finfo(log_s.dtype).tiny)
    return complement.log() - total.log()


def true_class(logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """-log s and log(1 - s) (B,) of the true class, for s = softmax of logits (B, C) and class indices (B,).

    Both from the difference d between the log-sum-exp of the other classes and the true class's logit, without loss of
    precision where s is close to 0 or 1. 1 - s is clamped at the smallest normal number.
    """
    at = index.unsqueeze(1)
    others = torch.logsumexp(logits.scatter(1, at, torch.finfo(logits.dtype).min), dim=1)
    difference = others - logits.gather(1, at).squeeze(1)
    smallest = math.log(torch.finfo(logits.dtype).tiny)
    return -F.logsigmoid(-difference), F.logsigmoid(difference).clamp(min=smallest)


def log_prior(class_counts: Tensor, dtype: torch.dtype) -> Tensor:
    """log(n_c / n) of counts (C,): the shift of logits for losses whose classes share one softmax.

    A class without samples counts as if it had one, so that every shift is finite; the shifts of other classes do not
    change.
    """
    counts = class_counts.to(dtype)
    return counts.clamp(min=1).log() - counts.sum().log()


def log_odds(class_counts: Tensor, dtype: torch.dtype) -> Tensor:
    """log(n_c / (n - n_c)) of counts (C,): the shift for losses with one sigmoid per class.

    A class without samples, or one that holds all of them, counts as if there were one more of it or of another class.
    """
    counts = class_counts.to(dtype)
    return counts.clamp(min=1).log() - (counts.sum() - counts).clamp(min=1).log()
