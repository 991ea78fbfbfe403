"""From a batch to an update of the weights: in parts where memory is short, and together with other processes.

Shape legend: B batch (of this process), C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tametail.training.averaging import MovingAverage
from tametail.training.hardware import Hardware, is_out_of_memory
from tametail.training.memory import MemoryShort
from tametail.training.optimisation import build_optimizer, set_learning_rate
from tametail.training.recipe import Recipe


class Stepper:
    """A model in training: its network, optimiser and averaged weights, and one step of them.

    The gradient of a step is that of the mean over the whole batch's images, whatever number of processes and parts it is
    computed in. It is not so for a loss that looks at the whole batch (`Loss.batchwise`), and batch normalisation sees the
    part, of at least two images.

    Args:
        model: maps inputs (B, ...) to logits (B, C).
        loss: maps logits and target to a scalar, the mean over images; with ``class_weights`` a copy of it whose attribute
            ``reduction`` is ``"none"`` must give (B,).

    Attributes:
        class_weights: (C,) what the images of each class count in a step's mean; None for one each.
        micro_batch: images that are taken at once; None for all.
    """

    def __init__(
        self, model: nn.Module, loss: nn.Module, recipe: Recipe, accelerator: Accelerator, hardware: Hardware
    ) -> None:
        self.model = model
        self.loss = loss.to(accelerator.device)
        per_image: Any = copy.copy(self.loss)
        per_image.reduction = "none"
        self._loss_per_image: Callable[[Tensor, Tensor], Tensor] = per_image
        self.accelerator = accelerator
        self.gradient_clip = recipe.gradient_clip
        self.micro_batch = hardware.micro_batch
        self.class_weights: Tensor | None = None
        optimizer = build_optimizer(model, recipe.optimizer)
        self.network = accelerator.prepare_model(torch.compile(model) if hardware.compile else model)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.average = MovingAverage(model, recipe.ema_decay) if recipe.ema_decay else None
        # Of one image batch normalisation has no variance.
        normalises_batches = any(isinstance(module, _BatchNorm) for module in model.modules())
        self._fewest = 2 if normalises_batches else 1

    @property
    def result(self) -> nn.Module:
        """What the training has come to: the averaged weights where there are any."""
        return self.average.module if self.average else self.model

    def update(self, inputs: Tensor, target: Tensor, share: float, lr: float) -> Tensor:
        """One step at a learning rate.

        Args:
            inputs: (B, ...) this process's part of the batch.
            target: (B,) classes or (B, C) labels or shares of classes.
            share: of the batch's images that are this process's; 0 if it only keeps the others company.

        Returns:
            A scalar: what this process's images add to the batch's mean loss.

        Raises:
            MemoryShort: one image at a time does not fit.
        """
        set_learning_rate(self.optimizer, lr)
        value = self._gradient(inputs, target, share)
        if self.gradient_clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update_parameters(self.model)
        return value

    def _gradient(self, inputs: Tensor, target: Tensor, share: float) -> Tensor:
        draws = torch.get_rng_state()
        while True:
            try:
                return self._in_parts(inputs, target, share)
            except (RuntimeError, MemoryError) as error:
                # Other processes may be in the middle of a sum of gradients: there is no going back for one alone.
                if not is_out_of_memory(error) or self.accelerator.num_processes > 1:
                    raise
                size = min(self.micro_batch or len(inputs), len(inputs))
                if size <= self._fewest:
                    raise MemoryShort(
                        "memory is short even for one image at a time (two with batch normalisation); choose a smaller "
                        "--image-size or --backbone"
                    ) from error
            self.micro_batch = max(-(-size // 2), self._fewest)
            self.optimizer.zero_grad(set_to_none=True)
            if self.accelerator.device.type == "cuda":
                torch.cuda.empty_cache()
            torch.set_rng_state(draws)

    def _in_parts(self, inputs: Tensor, target: Tensor, share: float) -> Tensor:
        total = inputs.new_zeros((), dtype=torch.float32)
        size = max(self.micro_batch or len(inputs), self._fewest)
        # Of nearly equal size, so that none is left with a single image.
        count = max(min(-(-len(inputs) // size), len(inputs) // self._fewest), 1)
        parts = list(zip(inputs.tensor_split(count), target.tensor_split(count), strict=True))
        world = self.accelerator.num_processes
        for at, (images, labels) in enumerate(parts):
            with self._apart(at + 1 < count):
                with self.accelerator.autocast():
                    logits = self.network(images)
                weight = share * len(logits) / len(inputs)
                value = self._mean_loss(logits.float(), labels) * weight
                self.accelerator.backward(
                    value * world if world > 1 else value
                )  # gradients are averaged over processes
            total += value.detach()
        return total

    def _apart(self, more_to_come: bool) -> AbstractContextManager[None]:
        """Gradients are summed over processes once, with the last part."""
        if more_to_come and self.accelerator.num_processes > 1:
            return self.accelerator.no_sync(self.network)  # type: ignore[no-any-return]
        return nullcontext()

    def _mean_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.class_weights is None:
            value: Tensor = self.loss(logits, target)
            return value
        weights = self.class_weights.to(logits.device)
        per_image = weights[target] if target.ndim == 1 else target @ weights
        return (per_image * self._loss_per_image(logits, target)).mean()

    def share_buffers(self) -> None:
        """The main process's buffers (running means of batch normalisation) in all processes."""
        if self.accelerator.num_processes == 1:
            return
        for module in filter(None, (self.model, self.average)):
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)
