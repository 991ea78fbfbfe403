"""One optimizer step: gradient accumulation where memory is limited, and gradient averaging over processes.

Shape legend: B batch (of this process), C classes.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from tametail.core.errors import TametailError, UsageError
from tametail.losses.custom import ModuleLoss
from tametail.training.hardware import Hardware, OutOfMemory, empty_cache, is_out_of_memory
from tametail.training.optimisation import build_optimizer, set_learning_rate
from tametail.training.recipe import Recipe

_GUARDED_STEPS = 2  # the second one is the first with the optimizer's state in memory
_LESS = "choose a smaller --image-size or --backbone"


class Stepper:
    """A model in training with its optimizer and averaged weights.

    The gradient of a step is that of the mean over all images of the batch, for any number of processes and
    micro-batches, if the loss is a mean over images; for a custom module that of its values for the micro-batches,
    weighted by their sizes. Batch normalisation uses the statistics of the micro-batch, of at least two images.

    In the first steps several processes agree on a micro-batch size that fits in all of them; later running out of memory
    ends the work.

    Args:
        model: maps inputs (B, ...) to logits (B, C).
        loss: maps logits and target to a scalar, the mean over images; with ``class_weights`` a copy of it with
            ``reduction = "none"`` must give (B,).

    Attributes:
        class_weights: (C,) weight of the images of each class; None for equal weights.
        micro_batch: micro-batch size; None for whole batches.

    Raises:
        UsageError: the loss needs whole batches and would get micro-batches.
    """

    def __init__(
        self, model: nn.Module, loss: nn.Module, recipe: Recipe, accelerator: Accelerator, hardware: Hardware
    ) -> None:
        check_whole_batches(loss, recipe.batch_size, hardware.micro_batch, accelerator.num_processes)
        self.model = model
        self.loss = loss.to(accelerator.device)
        self.accelerator = accelerator
        self.gradient_clip = recipe.gradient_clip
        self.micro_batch = hardware.micro_batch
        self.class_weights: Tensor | None = None
        optimizer = build_optimizer(model, recipe.optimizer)
        self.network = accelerator.prepare_model(torch.compile(model) if hardware.compile else model)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.average = MovingAverage(model, recipe.ema_decay) if recipe.ema_decay else None
        self._distributed = accelerator.num_processes > 1
        self._guarded = _GUARDED_STEPS
        # For one image batch normalisation has no variance, or only that between pixels.
        normalises_batches = any(isinstance(module, _BatchNorm) for module in model.modules())
        self._fewest = 2 if normalises_batches and recipe.batch_size > 1 else 1

    @property
    def result(self) -> nn.Module:
        """The current model: the averaged weights with ``ema_decay``."""
        return self.average.module if self.average else self.model

    def update(self, inputs: Tensor, target: Tensor, share: float, lr: float) -> Tensor:
        """Perform one optimizer step.

        Args:
            inputs: (B, ...) this process's part of the batch.
            target: (B,) classes or (B, C) labels or class probabilities.
            share: fraction of the batch's images in this process; 0 if its images are padding.
            lr: learning rate.

        Returns:
            A scalar: this process's contribution to the mean loss of the batch.

        Raises:
            OutOfMemory: the smallest micro-batch does not fit in one of the processes (raised in all of them), or the only
                process ran out of memory in the optimizer step.
            TametailError: one of several processes ran out of memory where it cannot inform the others.
            UsageError: classes are weighted, and the loss has no value per image.
        """
        set_learning_rate(self.optimizer, lr)
        if self._distributed and not self._guarded:
            fewer = -(-max(self._sizes(inputs)) // 2)
            with self._unrepeatable(
                f"in a step that {self.accelerator.num_processes} processes take together; "
                f"repeat the command with --micro-batch {fewer} to resume"
            ):
                value = self._accumulate(inputs, target, share, local=False)
        else:
            value = self._accumulate_what_fits(inputs, target, share)
        with self._unrepeatable(
            "in the optimizer step, which cannot be repeated; choose a smaller --backbone, "
            "or an optimizer with less state (--set optimizer.kind=sgd)"
        ):
            if self.gradient_clip:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average:
                self.average.update_parameters(self.model)
        self._guarded = max(self._guarded - 1, 0)
        return value

    def share_buffers(self) -> None:
        """Copy the main process's buffers (running statistics of batch normalisation) to all processes."""
        if not self._distributed:
            return
        for module in (self.model, *([self.average.module] if self.average else [])):
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _accumulate_what_fits(self, inputs: Tensor, target: Tensor, share: float) -> Tensor:
        """Accumulate the gradient with smaller and smaller micro-batches until they fit in all processes."""
        random_state = torch.get_rng_state()
        while True:
            value = None
            try:
                value = self._accumulate(inputs, target, share, local=True)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if value is None:
                self.optimizer.zero_grad(set_to_none=True)
                empty_cache(self.accelerator.device)
            too_many = self._largest(0 if value is not None else max(self._sizes(inputs)))
            if value is not None and not too_many:
                self._sum_gradients()
                return value
            self.optimizer.zero_grad(set_to_none=True)
            self._reduce_micro_batch(too_many)
            torch.set_rng_state(random_state)

    def _reduce_micro_batch(self, images: int) -> None:
        """Reduce the micro-batch size below ``images``."""
        if needs_whole_batches(self.loss):
            raise OutOfMemory(
                f"out of memory for a batch of {images} images, which {_name(self.loss)} needs whole; "
                f"choose a smaller --batch-size, --image-size or --backbone"
            )
        fewer = min(-(-images // 2), (self.micro_batch or images) - 1)
        if fewer < self._fewest:
            few = "one image" if self._fewest == 1 else f"{images} images"
            why = "" if self._fewest == 1 else ", and batch normalisation needs two"
            raise OutOfMemory(f"out of memory even for {few} at a time{why}; {_LESS}")
        self.micro_batch = fewer

    def _largest(self, number: int) -> int:
        """The maximum of a number over all processes."""
        if not self._distributed:
            return number
        largest = torch.tensor(number, device=self.accelerator.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def _sum_gradients(self) -> None:
        """Sum gradients over all processes."""
        if not self._distributed:
            return
        with self._unrepeatable(
            f"while processes summed their gradients; {_LESS}, and repeat the command to resume"
        ):
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    contiguous = parameter.grad.contiguous()
                    torch.distributed.all_reduce(contiguous)
                    parameter.grad.copy_(contiguous)

    @contextmanager
    def _unrepeatable(self, where_and_advice: str) -> Iterator[None]:
        """Turn out-of-memory errors into messages; with several processes all must end, as others may wait for this one."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            kind = TametailError if self._distributed else OutOfMemory
            raise kind(f"memory ran out {where_and_advice}") from error

    def _accumulate(self, inputs: Tensor, target: Tensor, share: float, *, local: bool) -> Tensor:
        """Accumulate the gradients of the micro-batches, of this process only (``local``) or of all processes."""
        total = inputs.new_zeros((), dtype=torch.float32)
        sizes = self._sizes(inputs)
        # DistributedDataParallel averages gradients over processes, where a sum is needed.
        scale = 1 if local else self.accelerator.num_processes
        network = self.network.module if local and self._distributed else self.network
        last = len(sizes) - 1
        for at, (some, wanted) in enumerate(zip(inputs.split(sizes), target.split(sizes), strict=True)):
            # Gradients are synchronised with the last micro-batch.
            with nullcontext() if local or at == last else self.accelerator.no_sync(self.network):
                with self.accelerator.autocast():
                    logits = network(some)
                mean = mean_loss(self.loss, logits.float(), wanted, self.class_weights)
                value = mean * (share * len(some) / len(inputs))
                self.accelerator.backward(value * scale)
            total += value.detach()
        return total

    def _sizes(self, inputs: Tensor) -> list[int]:
        most = max(self.micro_batch or len(inputs), self._fewest)
        return part_sizes(len(inputs), most, self._fewest)


def mean_loss(loss: nn.Module, logits: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """The mean loss over images, weighted by class; a scalar.

    Args:
        logits: (B, C) float32.
        target: (B,) classes or (B, C) labels or class probabilities.
        class_weights: (C,), or None for equal weights.

    Raises:
        UsageError: classes are weighted, and the loss has no value per image.
    """
    if class_weights is None:
        value: Tensor = loss(logits, target)
        return value
    weights = class_weights.to(logits.device)
    per_image = weights[target] if target.ndim == 1 else target @ weights
    by_image: Any = copy.copy(loss)
    by_image.reduction = "none"
    losses: Tensor = by_image(logits, target)
    if losses.ndim != 1:
        raise UsageError(
            f"expected {_name(loss)} to give a value per image, ({len(logits)},), for class weights, got "
            f"shape {tuple(losses.shape)}; choose another loss, or leave classes unweighted (--set reweighting=none)"
        )
    return (per_image * losses).mean()


def needs_whole_batches(loss: nn.Module) -> bool:
    """Whether a loss compares the images of a batch; unknown, and so False, for a custom module."""
    return bool(getattr(loss, "batchwise", False)) and not isinstance(loss, ModuleLoss)


def check_whole_batches(loss: nn.Module, batch_size: int, micro_batch: int | None, processes: int) -> None:
    """Check that a loss that needs whole batches gets them.

    Args:
        batch_size: images per step, over all processes.
        micro_batch: micro-batch size; None for whole batches.

    Raises:
        UsageError: it would get parts of batches.
    """
    if not needs_whole_batches(loss):
        return
    if processes > 1:
        raise UsageError(
            f"{_name(loss)} compares the images of a whole batch, but {processes} processes would each see a share; "
            f"train with it in one process, or choose another loss"
        )
    if micro_batch and micro_batch < batch_size:
        raise UsageError(
            f"{_name(loss)} compares the images of a whole batch of {batch_size}, but would see micro-batches of {micro_batch}; "
            f"leave --micro-batch out, choose --batch-size {micro_batch}, or choose another loss"
        )


def part_sizes(images: int, most: int, fewest: int = 1) -> list[int]:
    """Split a batch into as few parts of at most ``most`` images as possible, of nearly equal size.

    Parts have at least ``fewest`` images, and therefore possibly up to ``fewest - 1`` more than ``most``.
    """
    count = min(-(-images // most), max(images // fewest, 1))
    return [images // count + (at < images % count) for at in range(count)]


def _name(loss: nn.Module) -> str:
    return str(getattr(loss, "name", type(loss).__name__))


class MovingAverage(AveragedModel):
    """Exponential moving average of weights and buffers, with a decay that increases at the start.

    Update n (from 0) gives d · average + (1 - d) · model with d = min(decay, (1 + n) / (10 + n)); the first update copies.
    Integer buffers, such as a number of batches, are always copied.

    Args:
        model: the model to average, on its final device.
        decay: maximum of d, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average; does not synchronise with the device."""
        done = int(self.n_averaged)  # always on the CPU
        followed, current = [], []
        for average, now in zip(_tensors(self.module), _tensors(model), strict=True):
            if done and now.is_floating_point():
                followed.append(average)
                current.append(now)
            else:
                average.copy_(now)
        if followed:
            torch._foreach_lerp_(followed, current, 1 - min(self.decay, (1 + done) / (10 + done)))
        self.n_averaged += 1


def _tensors(module: nn.Module) -> itertools.chain[torch.Tensor]:
    return itertools.chain(module.parameters(), module.buffers())
