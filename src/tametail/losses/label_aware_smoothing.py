"""Label-aware smoothing (label_aware_smoothing): labels of frequent classes are smoothed more than those of rare ones."""

from __future__ import annotations

import math
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import Loss, ReductionParameters, functional
from tametail.losses.links import proportional
from tametail.losses.registry import register_loss
from tametail.losses.validation import ClassCounts, check_choice, check_class_counts, check_number

Shape = Literal["concave", "linear", "convex"]


def label_aware_smoothings(
    class_counts: ClassCounts, head: float = 0.3, tail: float = 0.0, shape: Shape = "concave"
) -> Tensor:
    """The smoothing of each class (C,) float64, from ``tail`` for the rarest to ``head`` for the most frequent.

    With x from 0 for the smallest count to 1 for the largest it grows as sin(x π/2) (concave), x (linear) or
    1 - cos(x π/2) (convex). Where all counts are equal, every class is a most frequent one. A class without samples
    counts as if it had one.
    """
    check_number("head", head, 0, 0.5)
    check_number("tail", tail, 0, 0.5)
    check_choice("shape", shape, get_args(Shape))
    counts = check_class_counts(class_counts).clamp(min=1).double()
    span = counts.max() - counts.min()
    x = torch.where(span > 0, (counts - counts.min()) / span.clamp(min=1), 1.0)
    if shape == "concave":
        x = torch.sin(x * (math.pi / 2))
    elif shape == "convex":
        x = 1 - torch.cos(x * (math.pi / 2))
    return tail + (head - tail) * x


@register_loss
class LabelAwareSmoothingLoss(Loss):
    """Label-aware smoothing: cross-entropy with more label smoothing for frequent classes than for rare ones.

    A sample of class y has the target 1 - e_y for y and e_y / (C-1) for every other class. A soft label mixes these
    targets linearly.

    Deviations: this is the paper's equation; its released code spreads e_y over all C classes, y included. That code
    divides 0 by 0 where all counts are equal; see :func:`label_aware_smoothings`.

    Use it when training a classifier on features that are already learned, against overconfidence in frequent classes.

    Args:
        smoothing_head: smoothing of the most frequent class, in [0, 0.5) (0.3 in the paper for 100 classes).
        smoothing_tail: smoothing of the rarest class, in [0, 0.5) (0 in the paper).
        shape: ``concave``, ``linear`` or ``convex`` growth in between (concave in the paper's main experiments).
        class_counts: training samples per class, required.
        tau, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Zhong, Cui, Liu, Jia: Improving Calibration for Long-Tailed Recognition, CVPR 2021, Eqs. 5 to 8.
    """

    name = "label_aware_smoothing"
    formula = "-Σ_c q_c log s_c, q_y = 1 - e_y, q_c = e_y / (C-1) for others, e from tail to head"
    family = "softmax"
    uses_class_counts = True

    def __init__(
        self,
        class_counts: ClassCounts | None = None,
        *,
        smoothing_head: float = 0.3,
        smoothing_tail: float = 0.0,
        shape: Shape = "concave",
        tau: float = 0.0,
        **common: Unpack[ReductionParameters],
    ) -> None:
        super().__init__(tau=tau, class_counts=class_counts, **common)
        self.smoothing_head = check_number("smoothing_head", smoothing_head, 0, 0.5)
        self.smoothing_tail = check_number("smoothing_tail", smoothing_tail, 0, 0.5)
        check_choice("shape", shape, get_args(Shape))
        self.shape: Shape = shape

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        smoothed = y * self._smoothings(z)
        spread = (smoothed.sum(dim=1, keepdim=True) - smoothed) / max(z.shape[1] - 1, 1)
        return -(y - smoothed + spread) * F.log_softmax(z, dim=1)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        log_s, classes = F.log_softmax(z, dim=1), z.shape[1]
        smoothed = self._smoothings(z)[index]
        own, others = log_s.gather(1, index.unsqueeze(1)).squeeze(1), max(classes - 1, 1)
        return -(1 - smoothed) * own - smoothed / others * (log_s.sum(dim=1) - own)

    def posterior(self, z: Tensor) -> Tensor:
        """The η from which the smoothing makes s: s_c = η_c (1 - e_c C/(C-1)) + A/(C-1), A = Σ_k η_k e_k."""
        s, others = torch.softmax(z, dim=1), max(z.shape[1] - 1, 1)
        if z.shape[1] == 1:
            return s
        kept = 1 - self._smoothings(z) * (z.shape[1] / others)
        # The η sum to one, which gives A.
        spread = ((s / kept).sum(dim=1, keepdim=True) - 1) / (1 / kept).sum()
        return proportional(((s - spread) / kept).clamp(min=0))

    def _smoothings(self, like: Tensor) -> Tensor:
        smoothings = label_aware_smoothings(
            self.counts_for(like), self.smoothing_head, self.smoothing_tail, self.shape
        )
        return smoothings.to(like.dtype)


label_aware_smoothing_loss = functional("label_aware_smoothing_loss", LabelAwareSmoothingLoss)
