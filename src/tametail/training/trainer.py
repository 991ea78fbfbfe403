"""The training loop: a new model, a loss and batches in; a trained model and its history out.

The loop has no special case for any loss and sees no configuration but the recipe. The random numbers of a step are a
function of (seed, step, process), so that a run resumes from any step with the content of a checkpoint alone.
Shape legend: B batch (of this process), C classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tametail.core.errors import TametailError
from tametail.data.sampling.loaders import TrainingBatches, explain_lost_workers
from tametail.data.sampling.mixing import BatchMixing
from tametail.training.checkpointing.checkpointer import Checkpointer, resume, save_or_stop
from tametail.training.hardware import Hardware, OutOfMemory, broadcast, gather
from tametail.training.history import EpochRecord, Validation
from tametail.training.inference import Transform
from tametail.training.optimisation import class_weights, label_smoothing_for, learning_rate, smooth_labels
from tametail.training.recipe import Recipe
from tametail.training.step import Stepper

_CHECK_EVERY = 16  # steps, as reading a loss synchronises with the GPU


class RunFailed(TametailError):
    """A training run that failed.

    Attributes:
        epoch, step: of the failure, from 0; None where it was outside a step.
        images: the ids of the images of that step, added by `tametail.training.execute.add_image_ids`.
    """

    def __init__(self, message: str, epoch: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.images: list[str] = []


class Callback(Protocol):
    """Receives the progress of a training run; cannot influence it."""

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        """Before the first step, also of a resumed run."""

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        """After a step: ``epoch`` and ``step`` count from 0; ``images`` is the number seen in the epoch so far."""

    def epoch(self, record: EpochRecord) -> None:
        """After an epoch."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run.

    Attributes:
        model: the trained model; its averaged weights with ``ema_decay``.
        history: one record per epoch.
        micro_batch: final micro-batch size; None for whole batches.
    """

    model: nn.Module
    history: list[EpochRecord]
    micro_batch: int | None


@dataclass(frozen=True)
class _Progress:
    """Finished epochs, finished steps of the current epoch and the sum of their losses, and records of epochs."""

    epoch: int = 0
    step: int = 0
    total: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)


@explain_lost_workers()
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
    """Train a model to the last epoch; no epoch is selected by any result.

    Args:
        model: maps inputs to logits (B, C).
        loss: maps logits (B, C) and a target, hard or soft (B, C), to a scalar.
        batches: from `training_batches`; with several processes each has its share.
        seed: of the random numbers of network and loss (dropout, stochastic depth).
        class_counts: C training images per class, for class weights and label smoothing.
        transform: applied to inputs on the device, with the random numbers of the batch.
        mixing: applied to transformed batches.
        hardware: how the machine is used.
        checkpointer: saves the run, and resumes it.
        callback: receives each step and epoch.
        validate: evaluates the model after each epoch; recorded, and used for nothing else.

    Raises:
        RunFailed: a loss was not finite, or one image at a time does not fit in memory.
        TametailError: a data-loading worker process was killed, or processes do not see the same checkpoints.
        Stopped: the checkpointer requested it, and everything is saved.
    """
    stepper = Stepper(model, loss, recipe, accelerator, hardware or Hardware())
    progress = _resume(stepper, checkpointer)
    if callback:
        callback.begin(recipe.epochs, batches.steps)
    check_every = 1 if accelerator.device.type == "cpu" else _CHECK_EVERY
    smoothing = label_smoothing_for(loss, recipe)
    try:
        for epoch in range(progress.epoch, recipe.epochs):
            stepper.class_weights = class_weights(recipe, epoch, class_counts)
            began, seen = time.perf_counter(), 0
            pending: list[Tensor] = []
            for step, batch in enumerate(batches.epoch(epoch, progress.step), progress.step):
                so_far = epoch * batches.steps + step
                torch.manual_seed(step_seed(seed, so_far, accelerator.process_index))
                lr = learning_rate(so_far / batches.steps, recipe)
                inputs, target, draws = (part.to(accelerator.device, non_blocking=True) for part in batch)
                if transform:
                    with torch.no_grad():
                        inputs = transform(inputs, draws)
                if mixing:
                    at = so_far * accelerator.num_processes + accelerator.process_index
                    inputs, target = mixing(inputs, target, epoch=epoch, step=at)
                if smoothing:
                    target = smooth_labels(target, class_counts, smoothing)
                pending.append(_step(stepper, inputs, target, batches.share(step), lr, epoch, step))
                seen += batches.size(step)
                if len(pending) < check_every and step + 1 < batches.steps:
                    continue
                losses, stop = _check_losses(pending, epoch, step, checkpointer, accelerator)
                progress = replace(progress, epoch=epoch, step=step + 1, total=sum(losses, progress.total))
                pending = []
                if callback:
                    callback.step(epoch, step, losses[-1], lr, seen)
                if step + 1 < batches.steps:
                    _save(stepper, checkpointer, progress, stop)
            stepper.share_buffers()
            seconds = time.perf_counter() - began
            mean = progress.total / batches.steps
            record = EpochRecord(epoch + 1, so_far + 1, mean, lr, seconds, seen / seconds)
            record = record.with_validation(validate(stepper.result) if validate else None)
            progress = _Progress(epoch + 1, history=[*progress.history, record])
            if callback:
                callback.epoch(record)
            if epoch + 1 < recipe.epochs:
                _save(stepper, checkpointer, progress, stop)
    finally:
        accelerator.free_memory()
    return TrainingResult(stepper.result, progress.history, stepper.micro_batch)


def _step(
    stepper: Stepper, inputs: Tensor, target: Tensor, share: float, lr: float, epoch: int, step: int
) -> Tensor:
    try:
        return stepper.update(inputs, target, share, lr)
    except OutOfMemory as error:
        raise RunFailed(str(error), epoch, step) from error


def _check_losses(
    pending: list[Tensor], epoch: int, step: int, checkpointer: Checkpointer | None, accelerator: Accelerator
) -> tuple[list[float], bool]:
    """The losses of the last steps, up to ``step``, over all processes, and whether one of those should stop.

    Raises:
        RunFailed: a loss is not finite.
    """
    stop = checkpointer is not None and checkpointer.stop_requested()
    values = torch.stack([*pending, pending[0].new_tensor(float(stop))])
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values, "sum")
    *losses, stops = values.tolist()
    for at, value in enumerate(losses, step + 1 - len(losses)):
        if not math.isfinite(value):
            raise non_finite_loss(value, epoch, at)
    return losses, stops > 0


def non_finite_loss(value: float, epoch: int, step: int) -> RunFailed:
    """The failure of a run whose loss was not finite in a step; epoch and step count from 0."""
    return RunFailed(
        f"the loss became {value} at step {step + 1} of epoch {epoch + 1}. "
        f"Lower the learning rate (--lr), or change the loss's parameters; repeating the run gives the same result.",
        epoch,
        step,
    )


def _save(stepper: Stepper, checkpointer: Checkpointer | None, progress: _Progress, stop: bool) -> None:
    save_or_stop(
        checkpointer,
        stepper,
        lambda: {**asdict(progress), "micro_batch": stepper.micro_batch},
        stop=stop,
        writes=stepper.accelerator.is_main_process,
    )


def _resume(stepper: Stepper, checkpointer: Checkpointer | None) -> _Progress:
    progress = _Progress()
    if state := resume(checkpointer, stepper):
        sizes = [size for size in (stepper.micro_batch, state["micro_batch"]) if size]
        stepper.micro_batch = min(sizes, default=None)
        history = [EpochRecord(**record) for record in state["history"]]
        progress = _Progress(state["epoch"], state["step"], state["total"], history)
    done = (progress.epoch, progress.step)
    if any(gather(done != broadcast(done, stepper.accelerator), stepper.accelerator)):
        raise TametailError(
            "the processes of this training run do not see the same checkpoints; put the study's folder (-o) on a file "
            "system that all machines share"
        )
    return progress


def step_seed(seed: int, step: int, process: int) -> int:
    """Seed of the random numbers of a step, counted over all epochs, in one of the processes."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> np.uint64(1))
