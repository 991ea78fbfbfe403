"""From a batch to an update of the weights: in parts where memory is short, and together with other processes.

Shape legend: B batch (of this process), C classes.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

_WATCHED = 2  # steps: the second is the first that has the optimiser's state beside it in memory
_LESS = "choose a smaller --image-size or --backbone"


class Stepper:
    """A model in training: its network, optimiser and averaged weights, and one step of them.

    The gradient of a step is that of the mean over the whole batch's images, whatever number of processes and parts it is
    computed in, for a loss that gives each image a number of its own. One that looks at the whole batch must get it whole
    (`check_whole_batches`). Of a module of the user's own nothing is known: the gradient is that of its values for the
    parts, weighted by their images. Batch normalisation, too, sees the part, of at least two images.

    Several processes agree in the first steps on parts that fit in all of them, and sum their gradients afterwards; later
    the sums are made while gradients are still computed, and memory that runs out then ends the work.

    Args:
        model: maps inputs (B, ...) to logits (B, C).
        loss: maps logits and target to a scalar, the mean over images; with ``class_weights`` a copy of it whose attribute
            ``reduction`` is ``"none"`` must give (B,).

    Attributes:
        class_weights: (C,) what the images of each class count in a step's mean; None for one each.
        micro_batch: images that are taken at once; None for all.

    Raises:
        UsageError: the loss looks at whole batches, and would get parts of them.
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
        self._together = accelerator.num_processes > 1
        self._to_watch = _WATCHED
        # Of one image batch normalisation has no variance, or only that between its pixels.
        normalises_batches = any(isinstance(module, _BatchNorm) for module in model.modules())
        self._fewest = 2 if normalises_batches and recipe.batch_size > 1 else 1

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
            OutOfMemory: the smallest parts that may be do not fit in one of the processes, and all raise; or memory ran
                out in the only process while it changed the weights.
            TametailError: memory ran out in one of several processes where it cannot tell the others. The work must end.
            UsageError: classes are weighted, and the loss gives no number per image.
        """
        set_learning_rate(self.optimizer, lr)
        if self._together and not self._to_watch:
            fewer = -(-max(self._sizes(inputs)) // 2)
            with self._without_way_back(
                f"in a step that {self.accelerator.num_processes} processes take together; "
                f"repeat the command with --micro-batch {fewer} to go on"
            ):
                value = self._in_parts(inputs, target, share, lock=False)
        else:
            value = self._in_parts_that_fit(inputs, target, share)
        with self._without_way_back(
            "while the weights were being changed, which cannot be done over; choose a smaller --backbone, "
            "or an optimiser that keeps less (--set optimizer.kind=sgd)"
        ):
            if self.gradient_clip:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average:
                self.average.update_parameters(self.model)
        self._to_watch = max(self._to_watch - 1, 0)
        return value

    def share_buffers(self) -> None:
        """The main process's buffers (running means of batch normalisation) in all processes."""
        if not self._together:
            return
        for module in (self.model, *([self.average.module] if self.average else [])):
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _in_parts_that_fit(self, inputs: Tensor, target: Tensor, share: float) -> Tensor:
        """The gradient, tried with smaller and smaller parts until they fit in all processes."""
        draws = torch.get_rng_state()
        while True:
            value = None
            try:
                value = self._in_parts(inputs, target, share, lock=True)
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
            self._take_less_than(too_many)
            torch.set_rng_state(draws)

    def _take_less_than(self, images: int) -> None:
        """Smaller parts than those that had up to so many images."""
        if needs_whole_batches(self.loss):
            raise OutOfMemory(
                f"memory is short for a batch of {images} images, which {_name(self.loss)} needs whole; "
                f"choose a smaller --batch-size, --image-size or --backbone"
            )
        fewer = min(-(-images // 2), (self.micro_batch or images) - 1)
        if fewer < self._fewest:
            few = "one image" if self._fewest == 1 else f"{images} images"
            why = "" if self._fewest == 1 else ", and batch normalisation cannot do with one"
            raise OutOfMemory(f"memory is short even for {few} at a time{why}; {_LESS}")
        self.micro_batch = fewer

    def _largest(self, number: int) -> int:
        """The largest of the processes' numbers, in all of them."""
        if not self._together:
            return number
        carried = torch.tensor(number, device=self.accelerator.device)
        torch.distributed.all_reduce(carried, torch.distributed.ReduceOp.MAX)
        return int(carried)

    def _sum_gradients(self) -> None:
        """All processes' gradients in each, where they were computed alone."""
        if not self._together:
            return
        with self._without_way_back(
            f"where processes sum their gradients; {_LESS}, and repeat the command to go on"
        ):
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    row_by_row = parameter.grad.contiguous()
                    torch.distributed.all_reduce(row_by_row)
                    parameter.grad.copy_(row_by_row)

    @contextmanager
    def _without_way_back(self, where_and_what_to_do: str) -> Iterator[None]:
        """Memory that runs out inside, in words. Of several processes the others may be waiting for this one: all must end."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            kind = TametailError if self._together else OutOfMemory
            raise kind(f"memory ran out {where_and_what_to_do}") from error

    def _in_parts(self, inputs: Tensor, target: Tensor, share: float, *, lock: bool) -> Tensor:
        """Add up the gradients of the batch's parts: this process's alone, or with the last part those of all."""
        total = inputs.new_zeros((), dtype=torch.float32)
        sizes = self._sizes(inputs)
        # Gradients that are summed as they are computed are divided by the number of processes.
        scale = 1 if lock else self.accelerator.num_processes
        network = self.network.module if lock and self._together else self.network
        last = len(sizes) - 1
        for at, (some, wanted) in enumerate(zip(inputs.split(sizes), target.split(sizes), strict=True)):
            with nullcontext() if lock or at == last else self._apart():
                with self.accelerator.autocast():
                    logits = network(some)
                mean = mean_loss(self.loss, logits.float(), wanted, self.class_weights)
                value = mean * (share * len(some) / len(inputs))
                self.accelerator.backward(value * scale)
            total += value.detach()
        return total

    def _apart(self) -> AbstractContextManager[None]:
        """Inside, processes keep their gradients to themselves."""
        return self.accelerator.no_sync(self.network)  # type: ignore[no-any-return]

    def _sizes(self, inputs: Tensor) -> list[int]:
        most = max(self.micro_batch or len(inputs), self._fewest)
        return part_sizes(len(inputs), most, self._fewest)


def mean_loss(loss: nn.Module, logits: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """A loss's mean over images (B,), each weighted as its class; a scalar.

    Args:
        logits: (B, C) float32.
        target: (B,) classes or (B, C) labels or shares of classes.
        class_weights: (C,), or None for one each.

    Raises:
        UsageError: classes are weighted, and the loss gives no number per image.
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
            f"expected {_name(loss)} to give a number per image, ({len(logits)},), as classes are weighted, got "
            f"shape {tuple(losses.shape)}; choose another loss, or leave classes unweighted (--set reweighting=none)"
        )
    return (per_image * losses).mean()


def needs_whole_batches(loss: nn.Module) -> bool:
    """Whether a loss is known to be another for parts of a batch; a module of the user's own is not known to be."""
    return bool(getattr(loss, "batchwise", False)) and not isinstance(loss, ModuleLoss)


def check_whole_batches(loss: nn.Module, batch_size: int, micro_batch: int | None, processes: int) -> None:
    """Refuse to give a loss that looks at whole batches parts of them.

    Args:
        batch_size: images of a step, those of all processes.
        micro_batch: images that are taken at once; None for all.

    Raises:
        UsageError: such a loss is to get parts.
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
            f"{_name(loss)} compares the images of a whole batch of {batch_size}, but would see {micro_batch} at once; "
            f"leave --micro-batch out, choose --batch-size {micro_batch}, or choose another loss"
        )


def part_sizes(images: int, most: int, fewest: int = 1) -> list[int]:
    """Sizes of the parts of a batch: as few parts of at most so many images as there can be, all nearly equal.

    Where parts may not be smaller than ``fewest``, they may have up to ``fewest - 1`` images more than ``most``.
    """
    count = min(-(-images // most), max(images // fewest, 1))
    return [images // count + (at < images % count) for at in range(count)]


def _name(loss: nn.Module) -> str:
    return str(getattr(loss, "name", type(loss).__name__))


class MovingAverage(AveragedModel):
    """An exponential moving average of weights and buffers that follows quickly at first.

    After update n (from 0) it is d · average + (1 - d) · model with d = min(decay, (1 + n) / (10 + n)); the first update
    copies. What is not of a floating-point type, such as a count of batches, is always copied.

    Args:
        model: what is averaged, with the names, shapes and devices that it will have.
        decay: largest d, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Follow the model by one step; no value is read from a device."""
        done = int(self.n_averaged)  # lies on the CPU wherever the model lies
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
