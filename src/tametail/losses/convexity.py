"""Whether a loss is convex in its logits, found by trying: a convex loss has one minimum, whatever training starts from.

Shape legend: B samples, C classes.
"""

from __future__ import annotations

import copy

import torch

from tametail.losses.base import Loss

_SAMPLES, _BATCHES = 4096, 32
_SPREADS = (1.0, 4.0, 8.0)  # standard deviations of the logits
_ROUNDING = 1e-10


@torch.no_grad()
def is_convex(loss: Loss, classes: int) -> bool:
    """Whether the loss lies below its chords between random logits, along single classes and along random directions.

    A loss that is not convex near the usual logits is found; that one is convex is not proven. With a stochastic loss the
    answer means nothing.

    Args:
        loss: any loss. Where a sample's loss depends on its batch, the mean of whole batches is tried.
        classes: C; at least 2 if the loss is of the softmax family.
    """
    generator = torch.Generator().manual_seed(0)
    sample = torch.arange(_SAMPLES)
    spread = torch.tensor(_SPREADS, dtype=torch.float64)[sample % len(_SPREADS)].unsqueeze(1)
    middle, direction = torch.randn(2, _SAMPLES, classes, generator=generator, dtype=torch.float64)
    single = torch.zeros_like(direction).scatter_(1, (sample % classes).unsqueeze(1), 1.0)
    direction = torch.where((sample % 2 == 0).unsqueeze(1), single, direction)
    middle, target = spread * middle, sample // 2 % classes
    tried = copy.copy(loss)
    tried.reduction = "mean" if loss.batchwise else "none"
    parts = sample.chunk(_BATCHES) if loss.batchwise else (sample,)
    for part in parts:
        below, at, above = (
            tried(middle[part] + step * direction[part], target[part]) for step in (-1.0, 0.0, 1.0)
        )
        if not (below + above - 2 * at >= -_ROUNDING * (1 + at.abs())).all():
            return False
    return True
