"""The losses of many heads for all training images at once, and their gradients with respect to the outputs.

Shape legend: n images, H heads, C classes, K of the heads, in any order and with repetitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.stack import LossStack, stack_key
from tametail.training.heads.head_step import HeadTask
from tametail.training.optimisation import class_weights, label_smoothing_for, smooth_labels
from tametail.training.step import mean_loss


def formula_key(task: HeadTask) -> tuple[object, ...] | None:
    """What heads must have in common for `FullBatch`; None for a head that shares its formula with no other."""
    key = stack_key(task.loss)
    smoothing = label_smoothing_for(task.loss, task.recipe)
    return None if key is None else (*key, task.recipe.reweighting, smoothing)


class FullBatch:
    """The mean losses of H heads with one formula, as `tametail.training.heads.lbfgs.minimise` takes them.

    Deferred re-weighting counts from the start: the minimum of a loss does not depend on the way there.

    Args:
        tasks: H heads with the same `formula_key`, or a single one.
        target: (n,) class indices, or (n, C) labels.
        class_counts: C training images per class.
        like: a tensor with the outputs' dtype and device.
    """

    def __init__(
        self, tasks: Sequence[HeadTask], target: Tensor, class_counts: Sequence[int], like: Tensor
    ) -> None:
        loss, recipe = tasks[0].loss, tasks[0].recipe
        smoothing, classes = label_smoothing_for(loss, recipe), len(class_counts)
        self._target = smooth_labels(target, class_counts, smoothing) if smoothing else target
        self._weights = class_weights(recipe, recipe.epochs, class_counts)
        self._loss = loss.to(like.device)
        self._stack: LossStack | None = None
        if formula_key(tasks[0]) is not None:
            self._stack = LossStack([task.loss for task in tasks], like, classes)
            labels = self._target if self._target.ndim == 2 else F.one_hot(self._target, classes)
            self._labels = labels.T.to(like.dtype).contiguous()
            if self._weights is not None:
                weights = self._weights.to(like)
                given = self._target
                self._of_image = weights[given] if given.ndim == 1 else given.to(like) @ weights

    def __call__(self, outputs: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses (K,) float64 and gradients (K, C, n) at outputs (K, C, n) of the heads at positions (K,)."""
        outputs = outputs.detach().requires_grad_()
        with torch.enable_grad():
            if self._stack is None:
                logits = outputs.transpose(1, 2)
                values = torch.stack(
                    [mean_loss(self._loss, each, self._target, self._weights) for each in logits]
                )
                means = values.double()
            else:
                values = self._stack.take(at)(outputs, self._labels)
                if self._weights is not None:
                    values = values * self._of_image
                means = values.double().sum(1) / values.shape[1]
            (gradients,) = torch.autograd.grad(means.sum(), outputs)
        return means.detach(), gradients
