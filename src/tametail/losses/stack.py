"""The losses of many heads on the same images, as one computation.

Losses of one class that differ only in numeric hyper-parameters are one formula with tensors as numbers.

Shape legend: H heads, C classes, B images. Images come last, so that the values of a class are contiguous.
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

    Each row equals the head's own loss with ``reduction="none"``. Where labels may be unknown, ``known`` (C, B) says which
    are known, and the others may have any value.

    Args:
        losses: H losses with the same :func:`stack_key`, which is not None.
        like: a tensor of the logits' dtype and device.
        classes: C.
    """

    def __init__(self, losses: Sequence[Loss], like: Tensor, classes: int) -> None:
        self._loss = copy.copy(losses[0])
        self._varied = set()
        for name in _numbers(losses[0]):
            values = [getattr(loss, name) for loss in losses]
            if values.count(values[0]) < len(values):
                self._varied.add(name)
                setattr(self._loss, name, like.new_tensor(values).view(-1, 1, 1))
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64).unsqueeze(1).expand(2, classes)
        moved = torch.stack([loss.adjusted(ends) for loss in losses])
        shift, scale = moved[:, 0], moved[:, 1] - moved[:, 0]
        self._shift = shift.unsqueeze(2).to(like) if shift.any() else None
        self._scale = scale.unsqueeze(2).to(like) if (scale != 1).any() else None

    def __call__(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        if known is not None:
            # Terms that are left out get no NaN or infinity, which would reach the gradient through 0 * inf.
            logits, labels = torch.where(known, logits, 0.0), torch.where(known, labels, 0.0)
        if self._scale is not None:
            logits = logits * self._scale
        if self._shift is not None:
            logits = logits + self._shift
        values = self._loss.terms(logits, labels)
        return (values if known is None else torch.where(known, values, 0.0)).sum(dim=1)

    def take(self, at: Tensor) -> LossStack:
        """The losses at some positions (K,), which may repeat."""
        taken = copy.copy(self)
        taken._loss = copy.copy(self._loss)
        for name, value in vars(self._loss).items():
            if name in self._varied:
                setattr(taken._loss, name, value[at])
        taken._shift, taken._scale = (
            part if part is None else part[at] for part in (self._shift, self._scale)
        )
        return taken


def stack_key(loss: Loss) -> tuple[object, ...] | None:
    """What losses must have in common to form one stack; None where the loss cannot be stacked.

    A class declares itself ``stackable``; a subclass does not inherit it, as it may have another formula.
    """
    if not vars(type(loss)).get("stackable"):
        return None
    numbers = _numbers(loss)
    others = [name for name in loss_parameters(type(loss)) if name not in (*numbers, *_NOT_IN_TERMS)]
    return (type(loss), numbers, *(getattr(loss, name) for name in others))


def _numbers(loss: Loss) -> tuple[str, ...]:
    """The hyper-parameters that are numbers. Those that are None or no number are part of the formula."""
    return tuple(
        name
        for name in loss_parameters(type(loss))
        if name not in _NOT_IN_TERMS and type(getattr(loss, name)) in (int, float)
    )
