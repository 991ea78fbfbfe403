"""The losses of many heads that look at the same images, as one computation.

Losses of one class that differ in numbers alone are one formula whose numbers are tensors. What a loss does to logits
before its formula, the prior's shift among it, is a scale and a shift per class for each head.
Shape legend: H heads, C classes, B images. Images come last, so that what is done class by class is done to rows that
lie together.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from tametail.losses.base import Loss
from tametail.losses.registry import loss_parameters

_NOT_IN_TERMS = ("reduction", "ignore_index")


class LossStack:
    """H losses with one ``stackable`` formula: logits (H, C, B) and labels (C, B) → a loss per head and image, (H, B).

    Each row is what the head's own loss gives with ``reduction="none"``, for labels that are all known.

    Args:
        losses: H losses of the same :func:`stack_key`, which is not None.
        like: a tensor of the logits' dtype and device.
        classes: C.
    """

    def __init__(self, losses: Sequence[Loss], like: Tensor, classes: int) -> None:
        first = losses[0]
        self._loss = copy.copy(first)
        for name in _declared(first) or ():
            values = [getattr(loss, name) for loss in losses]
            if values.count(values[0]) < len(values):
                setattr(self._loss, name, like.new_tensor(values).view(-1, 1, 1))
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64).unsqueeze(1).expand(2, classes)
        moved = torch.stack([loss.adjusted(ends) for loss in losses])
        shift, scale = moved[:, 0], moved[:, 1] - moved[:, 0]
        self._shift = shift.unsqueeze(2).to(like) if shift.any() else None
        self._scale = scale.unsqueeze(2).to(like) if (scale != 1).any() else None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self._scale is not None:
            logits = logits * self._scale
        if self._shift is not None:
            logits = logits + self._shift
        return self._loss.terms(logits, labels).sum(dim=1)


def stack_key(loss: Loss) -> tuple[object, ...] | None:
    """What losses must have in common to be one stack; None where the loss takes none.

    A class says for itself what can be stacked, as a subclass may have another formula.
    """
    names = _declared(loss)
    if names is None:
        return None
    others = [name for name in loss_parameters(type(loss)) if name not in (*names, *_NOT_IN_TERMS)]
    none = [name for name in names if getattr(loss, name) is None]
    return (type(loss), tuple(none), *(getattr(loss, name) for name in others))


def _declared(loss: Loss) -> tuple[str, ...] | None:
    return vars(type(loss)).get("stackable")
