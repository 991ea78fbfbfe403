"""The losses of many heads over the whole training set, and their gradients with respect to the outputs.

Shape legend: n images, H heads, C classes, K of the heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.stack import LossStack, stack_key
from tametail.training.heads.head_step import HeadTask, positions_by
from tametail.training.optimisation import class_weights, label_smoothing_for, smooth_labels
from tametail.training.step import mean_loss, needs_whole_batches


def by_formula(tasks: Sequence[HeadTask]) -> list[list[int]]:
    """Positions of tasks whose losses are one formula with different numbers, and of each other task alone."""
    return positions_by(at if (key := _formula(task)) is None else key for at, task in enumerate(tasks))


def _formula(task: HeadTask) -> tuple[object, ...] | None:
    key = stack_key(task.loss)
    return (
        None if key is None else (*key, task.recipe.reweighting, label_smoothing_for(task.loss, task.recipe))
    )


class FullBatch:
    """The mean losses of H heads, as `tametail.training.heads.lbfgs.minimise` takes them.

    Deferred re-weighting counts from the start: the minimum of a loss does not depend on the way there.

    Args:
        tasks: H heads; those of one formula next to each other.
        kept: for each head, the images (n,) that its mean is over; None for all.
        target: (n,) class indices, or (n, C) labels, nan where unknown.
        class_counts: C training images per class.
        like: a tensor with the outputs' dtype and device.
        blocks: consecutive images whose losses are computed at once; those of a loss that compares images are computed for
            all of them.
    """

    def __init__(
        self,
        tasks: Sequence[HeadTask],
        kept: Sequence[Tensor | None],
        target: Tensor,
        class_counts: Sequence[int],
        like: Tensor,
        blocks: Sequence[slice] = (slice(None),),
    ) -> None:
        self._formulas = []
        for places in by_formula(tasks):
            if places != list(range(places[0], places[-1] + 1)):
                raise ValueError("expected heads of one formula next to each other")
            of_formula = _Formula(
                [tasks[at] for at in places], [kept[at] for at in places], target, class_counts, like, blocks
            )
            self._formulas.append((places[0], places[-1] + 1, of_formula))

    def __call__(self, outputs: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses (K,) float64 and gradients (K, C, n) at outputs (K, C, n) of the heads at positions (K,).

        Positions are in ascending order.
        """
        bounds = at.new_tensor([[first, last] for first, last, _ in self._formulas])
        found = []
        for (first, _, formula), (low, high) in zip(
            self._formulas, torch.searchsorted(at, bounds).tolist(), strict=True
        ):
            if low < high:
                found.append(formula(outputs[low:high], at[low:high] - first))
        if len(found) == 1:
            return found[0]
        values, gradients = zip(*found, strict=True)
        return torch.cat(values), torch.cat(gradients)


class _Formula:
    """Heads of one formula."""

    def __init__(
        self,
        tasks: Sequence[HeadTask],
        kept: Sequence[Tensor | None],
        target: Tensor,
        class_counts: Sequence[int],
        like: Tensor,
        blocks: Sequence[slice],
    ) -> None:
        loss, recipe = tasks[0].loss, tasks[0].recipe
        smoothing, classes = label_smoothing_for(loss, recipe), len(class_counts)
        self._target = smooth_labels(target, class_counts, smoothing) if smoothing else target
        self._weights = class_weights(recipe, recipe.epochs, class_counts)
        self._loss, self._kept = loss.to(like.device), kept
        self._blocks = [slice(None)] if needs_whole_batches(loss) else blocks
        self._stack: LossStack | None = None
        self._shares: Tensor | None = None
        if stack_key(loss) is not None:
            self._stack = LossStack([task.loss for task in tasks], like, classes)
            labels = self._target if self._target.ndim == 2 else F.one_hot(self._target, classes)
            self._labels = labels.T.to(like.dtype).contiguous()
            unknown = self._labels.isnan()
            self._known = ~unknown if unknown.any() else None
            # (H, n) share of each image in the mean; None where all heads have all images.
            if any(each is not None for each in kept):
                all_images = torch.ones(len(target), dtype=torch.bool, device=target.device)
                chosen = torch.stack([all_images if each is None else each for each in kept]).double()
                self._shares = (chosen / chosen.sum(1, keepdim=True)).to(like)
            if self._weights is not None:
                weights, given = self._weights.to(like), self._target
                self._of_image = weights[given] if given.ndim == 1 else given.to(like) @ weights

    def __call__(self, outputs: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        found = [self._of_block(outputs[:, :, block], at, block) for block in self._blocks]
        if len(found) == 1:
            return found[0]
        values, gradients = zip(*found, strict=True)
        return torch.stack(values).sum(0), torch.cat(gradients, dim=2)

    def _of_block(self, outputs: Tensor, at: Tensor, block: slice) -> tuple[Tensor, Tensor]:
        """The share of a block of images in the mean losses (K,), and the gradients by its outputs."""
        outputs = outputs.detach().requires_grad_()
        images = len(self._target)
        with torch.enable_grad():
            if self._stack is None:
                logits = outputs.transpose(1, 2)
                means = torch.stack(
                    [
                        self._mean(each, self._kept[place], block)
                        for each, place in zip(logits, at.tolist(), strict=True)
                    ]
                ).double()
            else:
                known = None if self._known is None else self._known[:, block]
                values = self._stack.take(at)(outputs, self._labels[:, block], known)
                if self._weights is not None:
                    values = values * self._of_image[block]
                if self._shares is None:
                    means = values.double().sum(1) / images
                else:
                    means = (values * self._shares[at][:, block]).double().sum(1)
            (gradients,) = torch.autograd.grad(means.sum(), outputs)
        return means.detach(), gradients

    def _mean(self, logits: Tensor, kept: Tensor | None, block: slice) -> Tensor:
        target = self._target[block]
        if kept is None:
            return mean_loss(self._loss, logits, target, self._weights) * (len(target) / len(self._target))
        own = kept[block]
        if len(own) == len(kept):
            return mean_loss(self._loss, logits[own], target[own], self._weights)
        if not own.any():
            return logits.sum() * 0.0
        return mean_loss(self._loss, logits[own], target[own], self._weights) * (own.sum() / kept.sum())
