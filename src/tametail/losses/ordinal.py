"""The base class of losses for ordinal classes, and their order. Shape legend: B batch, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from tametail.losses.base import CommonParameters, Loss

ClassOrder = Sequence[int] | None


class OrdinalLoss(Loss):
    """Base class of losses whose formula depends on the order of the classes.

    ``tametail`` commands give them the order of the study (``--class-order``, numbers in the names, or a known data set), and
    refuse them where it is unknown.

    Args:
        class_order: the class indices from the lowest grade to the highest; None if the columns are in this order.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Raises:
        ValueError: the order is not every class index once.
    """

    ordinal: ClassVar[bool] = True
    class_order: tuple[int, ...] | None

    def __init__(self, *, class_order: ClassOrder = None, **common: Unpack[CommonParameters]) -> None:
        super().__init__(**common)
        order = None if class_order is None else tuple(map(int, class_order))
        if order is not None and sorted(order) != list(range(len(order))):
            raise ValueError(
                f"expected class_order as each class index from 0 to C - 1 once, the lowest grade first, got {order}"
            )
        self.class_order = order

    def by_grade(self, values: Tensor) -> Tensor:
        """Columns (dimension 1) from the lowest grade to the highest."""
        order = self._order(values.shape[1])
        return values if order is None else values[:, order]

    def by_class(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`by_grade`."""
        order = self._order(values.shape[1])
        if order is None:
            return values
        place = [0] * len(order)
        for grade, index in enumerate(order):
            place[index] = grade
        return values[:, place]

    def grades(self, classes: int, like: Tensor) -> Tensor:
        """The grade (C,) of each class, from 0, in the dtype of ``like``."""
        return self.by_class(torch.arange(classes, dtype=like.dtype, device=like.device).unsqueeze(0))[0]

    def _order(self, classes: int) -> list[int] | None:
        if self.class_order is None:
            return None
        if len(self.class_order) != classes:
            raise ValueError(
                f"{self._title()} expects input of shape (B, {len(self.class_order)}) for an order of {len(self.class_order)} "
                f"classes, got {classes} columns"
            )
        return list(self.class_order)
