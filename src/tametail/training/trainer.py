"""One run: a fresh model, a loss and some batches in; a trained model and its history out.

The trainer knows no loss by name and sees no configuration but the recipe. What is drawn in a step is a function of (seed,
step, process), so that a training goes on from any step with nothing but the numbers that a checkpoint holds.
Shape legend: B batch (of this process), C classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tametail.core.errors import TametailError
from tametail.data.sampling.loaders import Batch, TrainingBatches, telling_of_lost_readers
from tametail.data.sampling.mixing import BatchMixing
from tametail.training.checkpointing.interrupts import Stopped
from tametail.training.hardware import Hardware, OutOfMemory, broadcast, gather
from tametail.training.history import EpochRecord, Validation
from tametail.training.inference import Transform
from tametail.training.optimisation import class_weights, label_smoothing_for, learning_rate, smooth_labels
from tametail.training.recipe import Recipe
from tametail.training.state import pack, unpack
from tametail.training.step import Stepper

_CHECK_EVERY = 16  # steps: to read a loss from a GPU makes it wait


class RunFailed(TametailError):
    """A training that cannot go on.

    Attributes:
        epoch, step: where, from 0; None where it was no step.
        images: the ids of the images of that step, where someone has looked them up.
    """

    def __init__(self, message: str, epoch: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.images: list[str] = []


class Checkpointer(Protocol):
    """Where a training is kept while it goes on."""

    def load(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]] | None:
        """What was kept last, if anything was."""

    def due(self) -> bool:
        """Whether it is time to save."""

    def stop_requested(self) -> bool:
        """Whether the training should save and stop."""

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep this moment in place of the last."""


class Callback(Protocol):
    """Someone who watches; nothing of it comes back into the training."""

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        """Before the first step, also of a training that goes on."""

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        """After a step: ``epoch`` and ``step`` count from 0, ``images`` are those of the epoch so far."""

    def epoch(self, record: EpochRecord) -> None:
        """After an epoch."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training gives.

    Attributes:
        model: the trained model, its averaged weights where the recipe has them.
        history: one record per epoch.
        micro_batch: images that were taken at once in the end; None for whole batches.
    """

    model: nn.Module
    history: list[EpochRecord]
    micro_batch: int | None


@dataclass(frozen=True)
class _Place:
    """How far a training is: whole epochs, steps of the one at hand and the sum of their losses, the epochs' records."""

    epoch: int = 0
    step: int = 0
    total: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)


@telling_of_lost_readers()
def train(
    model: nn.Module,
    loss: nn.Module,
    batches: TrainingBatches,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    seed: int = 0,
    class_counts: Sequence[int] = (),
    transform: Transform | None = None,
    mixing: BatchMixing | None = None,
    hardware: Hardware | None = None,
    checkpointer: Checkpointer | None = None,
    callback: Callback | None = None,
    validate: Callable[[nn.Module], Validation] | None = None,
) -> TrainingResult:
    """Train ``model`` to the last epoch; no epoch is chosen by looking at any result.

    Args:
        model: maps inputs to logits (B, C).
        loss: maps logits (B, C) and a target, as the batches have it or soft (B, C), to a scalar.
        batches: from `training_batches`; with several processes each has its share.
        seed: of what network and loss draw (dropout, dropped paths).
        class_counts: C training images per class, for a recipe that weights classes or smooths labels.
        transform: what is done to inputs on the device, given the epoch's draws for them.
        mixing: mixes what the transform gives.
        hardware: how the machine is used.
        keeper: where the training is kept, and from where it goes on.
        callback: is told of each step and epoch.
        validate: how good the model is after an epoch; written down, and used for nothing.

    Raises:
        RunFailed: a loss was not finite, or one image at a time does not fit in memory.
        TametailError: a process that reads batches ahead was ended from outside, or processes do not see the same
            checkpoints.
        Stopped: the keeper asked for it, and everything is saved.
    """
    stepper = Stepper(model, loss, recipe, accelerator, hardware or Hardware())
    place = _resume(stepper, checkpointer)
    if callback:
        callback.begin(recipe.epochs, batches.steps)
    check_every = 1 if accelerator.device.type == "cpu" else _CHECK_EVERY
    smoothing = label_smoothing_for(loss, recipe)
    try:
        for epoch in range(place.epoch, recipe.epochs):
            stepper.class_weights = class_weights(recipe, epoch, class_counts)
            began, seen = time.perf_counter(), 0
            pending: list[Tensor] = []
            for step, batch in enumerate(batches.epoch(epoch, place.step), place.step):
                so_far = epoch * batches.steps + step
                torch.manual_seed(step_seed(seed, so_far, accelerator.process_index))
                lr = learning_rate(so_far / batches.steps, recipe)
                inputs, target = _on_device(batch, transform, accelerator)
                if mixing:
                    at = so_far * accelerator.num_processes + accelerator.process_index
                    inputs, target = mixing(inputs, target, epoch=epoch, step=at)
                if smoothing:
                    target = smooth_labels(target, class_counts, smoothing)
                pending.append(_step(stepper, inputs, target, batches.share(step), lr, epoch, step))
                seen += batches.size(step)
                if len(pending) < check_every and step + 1 < batches.steps:
                    continue
                losses, stop = _settle(pending, epoch, step, checkpointer, accelerator)
                place = replace(place, epoch=epoch, step=step + 1, total=sum(losses, place.total))
                pending = []
                if callback:
                    callback.step(epoch, step, losses[-1], lr, seen)
                if step + 1 < batches.steps:
                    _keep(stepper, checkpointer, place, stop)
            stepper.share_buffers()
            seconds = time.perf_counter() - began
            validation = validate(stepper.result) if validate else None
            record = EpochRecord.of(
                epoch + 1, so_far + 1, place.total / batches.steps, lr, seconds, seen / seconds, validation
            )
            place = _Place(epoch + 1, history=[*place.history, record])
            if callback:
                callback.epoch(record)
            if epoch + 1 < recipe.epochs:
                _keep(stepper, checkpointer, place, stop)
    finally:
        accelerator.free_memory()
    return TrainingResult(stepper.result, place.history, stepper.micro_batch)


def _on_device(batch: Batch, transform: Transform | None, accelerator: Accelerator) -> tuple[Tensor, Tensor]:
    inputs, target, draws = (part.to(accelerator.device, non_blocking=True) for part in batch)
    if transform:
        with torch.no_grad():
            inputs = transform(inputs, draws)
    return inputs, target


def _step(
    stepper: Stepper, inputs: Tensor, target: Tensor, share: float, lr: float, epoch: int, step: int
) -> Tensor:
    try:
        return stepper.update(inputs, target, share, lr)
    except OutOfMemory as error:
        raise RunFailed(str(error), epoch, step) from error


def _settle(
    pending: list[Tensor], epoch: int, step: int, checkpointer: Checkpointer | None, accelerator: Accelerator
) -> tuple[list[float], bool]:
    """The losses of the last steps, up to ``step``, over all processes, and whether one of those is asked to stop."""
    asked = checkpointer is not None and checkpointer.stop_requested()
    values = torch.stack([*pending, pending[0].new_tensor(float(asked))])
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values, "sum")
    *losses, stops = values.tolist()
    for at, value in enumerate(losses, step + 1 - len(losses)):
        if not math.isfinite(value):
            raise non_finite_loss(value, epoch, at)
    return losses, stops > 0


def non_finite_loss(value: float, epoch: int, step: int) -> RunFailed:
    """The failure of a training whose loss became no number in a step, both counted from 0."""
    return RunFailed(
        f"the loss became {value} at step {step + 1} of epoch {epoch + 1}. "
        f"Lower the learning rate (--lr), or change the loss's parameters; the same again ends the same.",
        epoch,
        step,
    )


def _keep(stepper: Stepper, checkpointer: Checkpointer | None, place: _Place, stop: bool) -> None:
    """Save if it is time to, and stop if that was asked for."""
    if checkpointer is None:
        return
    if stepper.accelerator.is_main_process and (stop or checkpointer.due()):
        tensors, state = pack(stepper)
        checkpointer.save(tensors, {**state, **asdict(place), "micro_batch": stepper.micro_batch})
    if stop:
        raise Stopped


def _resume(stepper: Stepper, checkpointer: Checkpointer | None) -> _Place:
    kept = checkpointer.load() if checkpointer else None
    place = _Place()
    if kept is not None:
        tensors, state = kept
        unpack(stepper, tensors, state)
        sizes = [size for size in (stepper.micro_batch, state["micro_batch"]) if size]
        stepper.micro_batch = min(sizes, default=None)
        history = [EpochRecord(**record) for record in state["history"]]
        place = _Place(state["epoch"], state["step"], state["total"], history)
    main = broadcast((place.epoch, place.step), stepper.accelerator)
    if any(gather((place.epoch, place.step) != main, stepper.accelerator)):
        raise TametailError(
            "the processes of this training do not see the same checkpoints; put the study's folder (-o) on a file system "
            "that all machines share"
        )
    return place


def step_seed(seed: int, step: int, process: int) -> int:
    """The seed of what is drawn in a step, counted over all epochs, in one of the processes."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> np.uint64(1))
