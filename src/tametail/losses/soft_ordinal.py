"""Soft ordinal labels (soft_ordinal): cross-entropy with labels that fall off with the distance in grades."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, functional
from tametail.losses.links import proportional
from tametail.losses.ordinal import ClassOrder, OrdinalLoss
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_choice, check_number

Distance = Literal["absolute", "squared"]


def soft_ordinal_labels(classes: int, distance: Distance = "absolute", scale: float = 1.0) -> Tensor:
    """The label (C, C) float64 of each grade in the rows: softmax of -scale · distance in grades."""
    check_choice("distance", distance, get_args(Distance))
    grade = torch.arange(classes, dtype=torch.float64)
    apart = (grade.unsqueeze(1) - grade).abs()
    return torch.softmax(-scale * (apart if distance == "absolute" else apart**2), dim=1)


@register_loss
class SoftOrdinalLoss(OrdinalLoss):
    """Soft ordinal labels: cross-entropy with labels that fall off with the distance from the true grade.

    The label of an image of grade y is q_c ∝ exp(-scale · d(c, y)), with d the absolute or squared difference of the grades. A
    soft label mixes these linearly. A large scale gives cross-entropy.

    Use it where classes are grades and neighbouring ones are confused by experts too.

    Args:
        distance: ``absolute`` (default) or ``squared`` difference of the grades.
        scale: how fast labels fall off, >= 0.1 (1 in the paper's formula).
        class_order: see :class:`OrdinalLoss`.
        tau, class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Díaz, Marathe: Soft Labels for Ordinal Regression, CVPR 2019, Eq. 1 (SORD).
    """

    name = "soft_ordinal"
    formula = "-Σ_c q_c log s_c, q_c = exp(-scale d(c, y)) / Σ_k exp(-scale d(k, y)), classes in order"
    family = "softmax"

    def __init__(
        self,
        *,
        distance: Distance = "absolute",
        scale: float = 1.0,
        class_order: ClassOrder = None,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(class_order=class_order, **common)
        check_choice("distance", distance, get_args(Distance))
        self.distance: Distance = distance
        self.scale = check_number("scale", scale, 0.1)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return -(y @ self._labels(z)) * F.log_softmax(z, dim=1)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        return -(self._labels(z)[index] * F.log_softmax(z, dim=1)).sum(dim=1)

    def posterior(self, z: Tensor) -> Tensor:
        """The η whose mixture of labels is the softmax: s_c = Σ_y η_y q_yc; those below 0 become 0."""
        s = self.by_grade(torch.softmax(z.double(), dim=1))
        mixed = s @ _inverse_labels(int(z.shape[1]), self.distance, self.scale).to(z.device)
        return proportional(self.by_class(mixed).clamp(min=0)).to(z.dtype)

    def _labels(self, like: Tensor) -> Tensor:
        """The label (C, C) of each class, rows and columns in the order of the logits."""
        labels = soft_ordinal_labels(like.shape[1], self.distance, self.scale)
        return self.by_class(self.by_class(labels).T).T.to(like)


@lru_cache(maxsize=64)
def _inverse_labels(classes: int, distance: Distance, scale: float) -> Tensor:
    """The inverse (C, C) of `soft_ordinal_labels`; kept, as it is needed for each batch, and cannot be exported."""
    with torch.inference_mode(False):
        inverse: Tensor = torch.linalg.inv(soft_ordinal_labels(classes, distance, scale))
    return inverse


soft_ordinal_loss = functional("soft_ordinal_loss", SoftOrdinalLoss)
