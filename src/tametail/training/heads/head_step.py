"""One step of many heads at once: their outputs, their losses, and the update of their weights.

Shape legend: H heads, C classes, D features, B batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from threading import Lock

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.losses import Loss
from tametail.losses.custom import ModuleLoss
from tametail.losses.stack import LossStack, stack_key
from tametail.models.head_stack import HeadStack
from tametail.training.optimisation import (
    class_weights,
    label_smoothing_for,
    make_optimizer,
    set_learning_rate,
    smooth_labels,
)
from tametail.training.recipe import Recipe
from tametail.training.step import MovingAverage, mean_loss

_GENERATOR_LOCK = Lock()  # all threads share torch's generator


@contextmanager
def seeded_draws(seed: int) -> Iterator[None]:
    """Seed torch inside the block, undisturbed by other threads."""
    with _GENERATOR_LOCK:
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True, eq=False)
class HeadTask:
    """One head to train.

    Attributes:
        loss: made with the class counts of the training images; on the CPU.
        recipe: of this head; heads that are trained at once agree in `shared_settings`.
        head: untrained, from `build_head`; on the CPU.
        classical: scikit-learn's logistic regression is fitted in place of the loss.
    """

    loss: Loss
    recipe: Recipe
    head: nn.Module
    classical: bool = False


def shared_settings(recipe: Recipe) -> Recipe:
    """The settings in which heads that are trained at once must agree: all but lr, weight_decay, l2, reweighting and head."""
    optimizer = recipe.optimizer.model_copy(update={"lr": 1.0, "weight_decay": 0.0})
    free = {
        "optimizer": optimizer,
        "l2": "chosen",
        "reweighting": "none",
        "head": "auto",
        "name": "",
        "summary": "",
    }
    return recipe.model_copy(update=free)


def positions_by(keys: Iterable[object]) -> list[list[int]]:
    """Group positions by equal keys, in order of first appearance."""
    groups: dict[object, list[int]] = {}
    for at, key in enumerate(keys):
        groups.setdefault(key, []).append(at)
    return list(groups.values())


class Heads(nn.Module):
    """H heads of any kinds: features (B, D) → outputs (H, C, B) in the order of the tasks."""

    def __init__(self, tasks: Sequence[HeadTask]) -> None:
        super().__init__()
        order = sorted(range(len(tasks)), key=lambda at: _stacked_by(tasks[at]))
        groups = [list(group) for _, group in groupby(order, key=lambda at: type(tasks[at].head).__name__)]
        self.stacks = nn.ModuleList(HeadStack([tasks[at].head for at in group]) for group in groups)
        self._order = order
        self._places = torch.tensor(order).argsort()
        self._in_order = order == list(range(len(tasks)))

    def forward(self, features: Tensor) -> Tensor:
        outputs = torch.cat([stack(features) for stack in self.stacks])
        return outputs if self._in_order else outputs[self._places.to(outputs.device)]

    def head(self, at: int) -> nn.Module:
        """One of them as a separate module."""
        place = int(self._places[at])
        for stack in self.stacks:
            assert isinstance(stack, HeadStack)
            if place < len(stack):
                return stack.head(place)
            place -= len(stack)
        raise IndexError(at)


def _stacked_by(task: HeadTask) -> tuple[str, float, float]:
    """Sorts heads by kind, then by learning rate and weight decay."""
    return type(task.head).__name__, task.recipe.optimizer.lr, task.recipe.optimizer.weight_decay


class HeadStepper:
    """Heads in training, with their optimizer and averaged weights: a `tametail.training.checkpointing.checkpoint.TrainingState`.

    Args:
        tasks: H heads whose recipes agree in `shared_settings`.
        recipe: the one with the reference learning rate.
    """

    def __init__(self, tasks: Sequence[HeadTask], recipe: Recipe, accelerator: Accelerator) -> None:
        self.model = Heads(tasks).to(accelerator.device)
        # Stacked losses have no state; a custom loss may.
        self.loss = nn.ModuleList(task.loss for task in tasks if stack_key(task.loss) is None)
        self.average = MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self._clip = recipe.gradient_clip
        self._autocast = accelerator.autocast
        self._slices: list[tuple[nn.Parameter, Tensor, slice]] = []
        self.optimizer = self._make_optimizer(tasks, recipe, accelerator.device)

    @property
    def result(self) -> Heads:
        """The current model: the averaged weights with ``ema_decay``."""
        heads = self.average.module if self.average else self.model
        assert isinstance(heads, Heads)
        return heads

    def outputs(self, features: Tensor) -> Tensor:
        """(H, C, B) float32."""
        with self._autocast():
            outputs: Tensor = self.model(features)
        return outputs.float()

    def update(self, losses: Tensor, lr: float) -> None:
        """One step at a learning rate from the heads' losses (H,): no head's gradient has a part of another's."""
        set_learning_rate(self.optimizer, lr)
        losses.sum().backward()
        if self._clip:
            self._clip_gradients(self._clip)
        for whole, part, where in self._slices:
            assert whole.grad is not None
            part.grad = whole.grad[where]
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)
        if self.average:
            self.average.update_parameters(self.model)

    def _make_optimizer(
        self, tasks: Sequence[HeadTask], recipe: Recipe, device: torch.device
    ) -> torch.optim.Optimizer:
        """An optimizer with one parameter group per learning rate and weight decay, on slices of the stacked weights."""
        settings = recipe.optimizer
        ordered = [tasks[at].recipe.optimizer for at in self.model._order]
        groups, first = [], 0
        for stack in self.model.stacks:
            assert isinstance(stack, HeadStack)
            within = ordered[first : first + len(stack)]
            first += len(stack)
            start = 0
            for own, same in groupby(within, key=lambda each: (each.lr, each.weight_decay)):
                where = slice(start, start := start + len(list(same)))
                for parameter in stack.parameters():
                    part = parameter.detach()[where].requires_grad_()
                    self._slices.append((parameter, part, where))
                    # As for a single head: matrices decay, and with adam all parameters do.
                    decays = settings.kind == "adam" or parameter.ndim > 2
                    scale = own[0] / settings.lr
                    groups.append(
                        {"params": [part], "weight_decay": own[1] if decays else 0.0, "lr_scale": scale}
                    )
        return make_optimizer(groups, settings, fused=device.type in {"cpu", "cuda"})

    def _clip_gradients(self, max_norm: float) -> None:
        """Clip the gradient norm of each head, as `torch.nn.utils.clip_grad_norm_` does for one model."""
        for stack in self.model.stacks:
            gradients = [parameter.grad for parameter in stack.parameters() if parameter.grad is not None]
            norms = torch.stack(
                [each.flatten(1).norm(dim=1) if each.ndim > 1 else each.abs() for each in gradients]
            )
            factor = (max_norm / (norms.norm(dim=0) + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


class HeadLosses:
    """The losses of H heads on the same batch: those of one class at once, the others one by one.

    Args:
        tasks: H heads.
        class_counts: C training images per class.
        like: a tensor with the outputs' dtype and device.
    """

    def __init__(self, tasks: Sequence[HeadTask], class_counts: Sequence[int], like: Tensor) -> None:
        keys = [stack_key(task.loss) for task in tasks]
        groups = positions_by(
            (at if key is None else key, task.recipe.reweighting, label_smoothing_for(task.loss, task.recipe))
            for at, (task, key) in enumerate(zip(tasks, keys, strict=True))
        )
        self._groups = [_Group([tasks[at] for at in places], places, class_counts, like) for places in groups]
        self._back = torch.tensor([at for places in groups for at in places]).argsort()

    def begin_epoch(self, epoch: int) -> None:
        """Set the class weights of an epoch, from 0."""
        for group in self._groups:
            group.begin_epoch(epoch)

    def __call__(self, outputs: Tensor, target: Tensor, seed: int) -> Tensor:
        """Mean losses (H,) of outputs (H, C, B) for a target (B,) or (B, C); ``seed`` is for stochastic losses."""
        values = torch.cat([group(outputs, target, seed) for group in self._groups])
        return values[self._back.to(values.device)]


class _Group:
    """Heads whose losses are computed at once, or a single head."""

    def __init__(
        self, tasks: Sequence[HeadTask], places: list[int], class_counts: Sequence[int], like: Tensor
    ) -> None:
        first = tasks[0]
        self._recipe, self._counts = first.recipe, class_counts
        self._smoothing = label_smoothing_for(first.loss, first.recipe)
        self._places = (
            slice(places[0], places[-1] + 1) if places[-1] - places[0] + 1 == len(places) else places
        )
        self._stack = None
        self._weights: Tensor | None = None
        if stack_key(first.loss) is not None:
            self._stack = LossStack([task.loss for task in tasks], like, len(class_counts))
        self._loss = first.loss.to(like.device)
        self._stochastic = self._loss.stochastic or isinstance(self._loss, ModuleLoss)

    def begin_epoch(self, epoch: int) -> None:
        self._weights = class_weights(self._recipe, epoch, self._counts)

    def __call__(self, outputs: Tensor, target: Tensor, seed: int) -> Tensor:
        outputs = outputs[self._places]
        if self._smoothing:
            target = smooth_labels(target, self._counts, self._smoothing)
        if self._stack is None:
            logits = outputs[0].T.contiguous()
            with seeded_draws(seed) if self._stochastic else nullcontext():
                return mean_loss(self._loss, logits, target, self._weights).unsqueeze(0)
        labels = target if target.ndim == 2 else F.one_hot(target, outputs.shape[1])
        labels = labels.T.to(outputs.dtype)
        # Only labels of their own may be unknown.
        known = ~labels.isnan() if self._loss.family == "sigmoid" and target.ndim == 2 else None
        per_image = self._stack(outputs, labels, known)
        if self._weights is not None:
            weights = self._weights.to(outputs)
            per_image = per_image * (weights[target] if target.ndim == 1 else target @ weights)
        return per_image.mean(dim=1)
