"""Training many heads on the same frozen features at once: one batched matrix product per step instead of many small ones.

Heads that can be are trained to the minimum of their penalised loss, see `tametail.training.heads.minimum`; the others step
by step. Each head has its own loss, penalty, learning rate, weight decay and class weights; all see the same images. The
result of each is that of training it alone, up to rounding.
Shape legend: n training images, m other images, D features, H heads, C classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tametail.core.arrays import IntArray
from tametail.data.row_store import row_blocks
from tametail.data.sampling.loaders import TrainingBatches
from tametail.data.sampling.mixing import BatchMixing
from tametail.training.checkpointing.checkpointer import Checkpointer, Stopped, resume, save_or_stop
from tametail.training.heads.head_step import HeadLosses, Heads, HeadStepper, HeadTask, shared_settings
from tametail.training.heads.minimum import Convergence, inner_folds, reaches_minimum, train_to_minimum
from tametail.training.history import EpochRecord, Validation, mean_record
from tametail.training.large_tensors import to_device
from tametail.training.optimisation import learning_rate
from tametail.training.trainer import Callback, RunFailed, non_finite_loss, step_seed

# Memory of a batch of heads: what a step touches should fit in the CPU's cache.
HEAD_BATCH_BYTES = 32 * 2**20
_MIN_HEADS = 8  # per batch, when batches are made smaller for more workers
# Floats per weight (value, gradient, two moments of the optimizer) and per logit (saved for the backward pass).
_PER_WEIGHT, _PER_LOGIT = 4, 16


@dataclass(frozen=True, eq=False)
class TrainedHeads:
    """H trained heads, in the order of their tasks.

    Attributes:
        histories: for each head, one record per epoch, or per iteration of a head that was trained to the minimum.
        failures: for each head, why it failed, or None.
        convergence: for each head, how its training ended; None for heads that were trained step by step.
    """

    histories: list[list[EpochRecord]]
    failures: list[RunFailed | None]
    convergence: list[Convergence | None]
    _heads: Heads

    def head(self, at: int) -> nn.Module:
        """One of them as a separate module, on the CPU."""
        return self._heads.head(at).cpu()

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """Outputs (H, m, C) float32 for features (m, D), standardised as in training."""
        device = next(self._heads.parameters()).device
        if not len(features):
            return self.outputs(features.new_zeros(1, features.shape[1]))[:, :0]
        parts = [
            self._heads(features[block].to(device)).float().cpu() for block in row_blocks(*features.shape)
        ]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)).transpose(1, 2)


def batch_heads(
    heads: Sequence[nn.Module], batch_size: int, *, least: int = 1, most_bytes: int = HEAD_BATCH_BYTES
) -> list[list[int]]:
    """Split heads into batches of nearly equal size that are trained at once; returns their positions.

    Args:
        heads: untrained heads.
        batch_size: B.
        least: minimum number of batches, as long as each has at least 8 heads.
        most_bytes: maximum memory of a batch; a single head may need more.
    """
    if not heads:
        return []
    parameters = [list(head.parameters()) for head in heads]
    largest = max(
        4 * (_PER_WEIGHT * sum(each.numel() for each in own) + _PER_LOGIT * len(own[0]) * batch_size)
        for own in parameters
    )
    count = max(-(-len(heads) * largest // most_bytes), min(least, len(heads) // _MIN_HEADS))
    return [part.tolist() for part in np.array_split(np.arange(len(heads)), min(max(count, 1), len(heads)))]


def trained_together(task: HeadTask) -> tuple[bool, str]:
    """What heads must have in common to be trained at once by `train_heads`."""
    return reaches_minimum(task), shared_settings(task.recipe).model_dump_json()


@dataclass(frozen=True)
class _Progress:
    """Finished epochs, finished steps of the current epoch and the sums (H,) of their losses, records, failures."""

    epoch: int
    step: int
    total: list[float]
    histories: list[list[EpochRecord]]
    failed: dict[int, tuple[float, int, int]] = field(default_factory=dict)


def train_heads(
    features: Tensor,
    target: Tensor,
    tasks: Sequence[HeadTask],
    batches: TrainingBatches,
    accelerator: Accelerator,
    *,
    seed: int = 0,
    class_counts: Sequence[int] = (),
    mixing: BatchMixing | None = None,
    checkpointer: Checkpointer | None = None,
    callback: Callback | None = None,
    validate: Callable[[TrainedHeads], list[Validation]] | None = None,
    fold: IntArray | None = None,
) -> TrainedHeads:
    """Train heads to the minimum or to the last epoch, all at once; a head that fails does not affect the others.

    Args:
        features: (n, D) float32 of the training images, standardised; large ones may be in a file.
        target: (n,) class indices, or (n, C) float labels.
        tasks: H heads whose recipes agree in `shared_settings`, and of which all or none satisfy `reaches_minimum`.
        batches: give the order of the images; their data is not used.
        seed: of the losses' random numbers; each head draws the same as when trained alone.
        class_counts: C training images per class.
        mixing: applied to the batches.
        checkpointer: saves the run, and resumes it.
        callback: receives each step and epoch, with means over the heads.
        validate: evaluates the heads after each epoch; recorded, and used for nothing else.
        fold: (n,) folds of the training images, by which penalties are chosen; three are made where there are fewer
            than two.

    Raises:
        Stopped: the checkpointer requested it, and everything is saved.
        ValueError: recipes that differ in other settings.
    """
    recipe = tasks[0].recipe
    if any(shared_settings(task.recipe) != shared_settings(recipe) for task in tasks):
        raise ValueError("expected recipes that differ only in lr, weight_decay, l2, reweighting and head")
    if reaches_minimum(tasks[0]):
        inner = inner_folds(
            np.zeros(len(target), dtype=np.int64) if fold is None else fold, target.numpy(force=True)
        )
        return _minimise(
            features, target, tasks, class_counts, inner, accelerator, seed, checkpointer, callback, validate
        )
    device = accelerator.device
    features, target = to_device(features, device), target.to(device)
    stepper = HeadStepper(tasks, recipe, accelerator)
    losses = HeadLosses(tasks, class_counts, torch.empty(0, device=device))
    progress = _resume(stepper, checkpointer, len(tasks))
    lr_ratios = [task.recipe.optimizer.lr / recipe.optimizer.lr for task in tasks]
    if callback:
        callback.begin(recipe.epochs, batches.steps)
    for epoch in range(progress.epoch, recipe.epochs):
        losses.begin_epoch(epoch)
        order = torch.from_numpy(batches.order(epoch)).to(device)
        began, seen, stop = time.perf_counter(), 0, False
        total = torch.tensor(progress.total, dtype=torch.float64)
        for step in range(progress.step, batches.steps):
            so_far = epoch * batches.steps + step
            lr = learning_rate(so_far / batches.steps, recipe)
            chosen = order[step * recipe.batch_size :][: batches.size(step)]
            inputs, wanted = features[chosen.to(features.device)].to(device), target[chosen]
            if mixing:
                inputs, wanted = mixing(inputs, wanted, epoch=epoch, step=so_far)
            values = losses(stepper.outputs(inputs), wanted, step_seed(seed, so_far, 0))
            stepper.update(values, lr)
            found = values.detach().cpu().double()
            total += found
            seen += len(chosen)
            progress = note_failures(progress, found, epoch, step)
            if callback:
                callback.step(epoch, step, float(found.nanmean()), lr, seen)
            progress = replace(progress, epoch=epoch, step=step + 1, total=total.tolist())
            stop = checkpointer is not None and checkpointer.stop_requested()
            if step + 1 < batches.steps:
                _save(stepper, checkpointer, progress, stop)
        seconds = time.perf_counter() - began
        validations = validate(_trained(stepper, progress)) if validate else [None] * len(tasks)
        means = (total / batches.steps).tolist()
        records = [
            EpochRecord(epoch + 1, so_far + 1, mean, lr * ratio, seconds, seen / seconds).with_validation(
                found
            )
            for mean, ratio, found in zip(means, lr_ratios, validations, strict=True)
        ]
        histories = [[*before, record] for before, record in zip(progress.histories, records, strict=True)]
        progress = _Progress(epoch + 1, 0, [0.0] * len(tasks), histories, progress.failed)
        if callback:
            callback.epoch(mean_record(records))
        if epoch + 1 < recipe.epochs:
            _save(stepper, checkpointer, progress, stop)
    return _trained(stepper, progress)


def _minimise(
    features: Tensor,
    target: Tensor,
    tasks: Sequence[HeadTask],
    class_counts: Sequence[int],
    fold: IntArray,
    accelerator: Accelerator,
    seed: int,
    checkpointer: Checkpointer | None,
    callback: Callback | None,
    validate: Callable[[TrainedHeads], list[Validation]] | None,
) -> TrainedHeads:
    """Train heads to the minimum. It takes seconds: after a stop it starts again, to the same result."""
    began, finished = time.perf_counter(), 0
    if callback:
        callback.begin(1, len(tasks))

    def advance(heads: int) -> None:
        nonlocal finished
        for _ in range(heads if callback else 0):
            assert callback is not None
            callback.step(0, finished, math.nan, 0.0, len(target))
            finished += 1

    def stop() -> None:
        if checkpointer is not None and checkpointer.stop_requested():
            raise Stopped

    device = accelerator.device
    found = train_to_minimum(
        to_device(features, device),
        target.to(device),
        tasks,
        class_counts=class_counts,
        fold=fold,
        seed=seed,
        advance=advance,
        stop=stop,
    )
    heads = Heads([replace(task, head=head) for task, head in zip(tasks, found.heads, strict=True)]).to(
        device
    )
    failures = [
        None if math.isfinite(each.objective) else _no_minimum(each.objective) for each in found.convergence
    ]
    seconds = (time.perf_counter() - began) / len(tasks)
    paths = [
        [EpochRecord(at, at, value, 0.0) for at, value in enumerate(path[1:] or path, start=1)]
        for path in found.paths
    ]
    trained = TrainedHeads(paths, failures, list(found.convergence), heads)
    validations = validate(trained) if validate else [None] * len(tasks)
    histories = [
        [*path[:-1], replace(path[-1], seconds=seconds).with_validation(validation)]
        for path, validation in zip(paths, validations, strict=True)
    ]
    if callback:
        ended = mean_record([history[-1] for history in histories])
        callback.epoch(replace(ended, epoch=1, step=len(tasks)))
    return replace(trained, histories=histories)


def _no_minimum(objective: float) -> RunFailed:
    return RunFailed(
        f"the loss of all training images is {objective} at every start, so there is no minimum to find. Change the loss's "
        f"parameters; repeating the run gives the same result.",
        0,
        0,
    )


def note_failures(progress: _Progress, losses: Tensor, epoch: int, step: int) -> _Progress:
    """Add the heads whose losses (H,) are not finite."""
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    new = {at: (float(losses[at]), epoch, step) for at in bad if at not in progress.failed}
    return replace(progress, failed=progress.failed | new) if new else progress


def _trained(stepper: HeadStepper, progress: _Progress) -> TrainedHeads:
    failures = [
        non_finite_loss(*progress.failed[at]) if at in progress.failed else None
        for at in range(len(progress.total))
    ]
    return TrainedHeads(progress.histories, failures, [None] * len(failures), stepper.result)


def _save(stepper: HeadStepper, checkpointer: Checkpointer | None, progress: _Progress, stop: bool) -> None:
    failed = list(progress.failed.items())
    save_or_stop(checkpointer, stepper, lambda: {**asdict(progress), "failed": failed}, stop=stop)


def _resume(stepper: HeadStepper, checkpointer: Checkpointer | None, heads: int) -> _Progress:
    state = resume(checkpointer, stepper)
    if state is None:
        return _Progress(0, 0, [0.0] * heads, [[] for _ in range(heads)])
    histories = [[EpochRecord(**record) for record in history] for history in state["histories"]]
    failed = {at: tuple(where) for at, where in state["failed"]}
    return _Progress(state["epoch"], state["step"], state["total"], histories, failed)
