"""Many heads on the same frozen features, trained together: one product of matrices a step in place of many small ones.

Each head has a loss of its own, and its own learning rate, weight decay and weights of classes; all see the same batches.
What comes out of each is, up to rounding, what it would be alone.
Shape legend: n training images, m others, D features, H heads, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tametail.data.sampling.loaders import TrainingBatches
from tametail.data.sampling.mixing import BatchMixing
from tametail.training.checkpointing.interrupts import Stopped
from tametail.training.heads.head_step import HeadLosses, Heads, HeadStepper, HeadTask, shared_settings
from tametail.training.history import EpochRecord, Validation, mean_record
from tametail.training.optimisation import learning_rate
from tametail.training.state import pack, unpack
from tametail.training.trainer import Callback, Checkpointer, RunFailed, non_finite_loss, step_seed

# Bytes of a portion of heads: what a step touches should stay in a processor's cache.
HEAD_BATCH_BYTES = 32 * 2**20
_FEW = 8  # heads in a portion are not worth dividing
# Numbers per weight (itself, its gradient, the optimiser's two moments), and per logit (what formulas keep for gradients).
_PER_WEIGHT, _PER_LOGIT = 4, 16


@dataclass(frozen=True, eq=False)
class TrainedHeads:
    """H trained heads, in the order of their tasks.

    Attributes:
        histories: of each, one record per epoch.
        failures: of each, why it cannot be used, or None.
    """

    histories: list[list[EpochRecord]]
    failures: list[RunFailed | None]
    _heads: Heads

    def head(self, at: int) -> nn.Module:
        """One of them as a module of its own, on the CPU."""
        return self._heads.head(at).cpu()

    @torch.no_grad()
    def outputs(self, features: Tensor) -> Tensor:
        """(H, m, C) float32 of features (m, D) that are scaled as the training's were."""
        device = next(self._heads.parameters()).device
        outputs: Tensor = self._heads(features.to(device))
        return outputs.float().cpu().transpose(1, 2)


def batch_heads(
    heads: Sequence[nn.Module], batch_size: int, *, least: int = 1, most_bytes: int = HEAD_BATCH_BYTES
) -> list[list[int]]:
    """Positions of heads that are to be trained at once, nearly equally many in each portion.

    Args:
        heads: untrained.
        batch_size: B.
        least: how many portions there should be, as long as each has some heads.
        most_bytes: what a portion may take; a single head may take more.
    """
    if not heads:
        return []
    parameters = [list(head.parameters()) for head in heads]
    largest = max(
        4 * (_PER_WEIGHT * sum(each.numel() for each in own) + _PER_LOGIT * len(own[0]) * batch_size)
        for own in parameters
    )
    count = max(-(-len(heads) * largest // most_bytes), min(least, len(heads) // _FEW))
    return [part.tolist() for part in np.array_split(np.arange(len(heads)), min(max(count, 1), len(heads)))]


@dataclass(frozen=True)
class _Place:
    """How far a training is: whole epochs, steps of the one at hand and the sums (H,) of their losses, records, failures."""

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
) -> TrainedHeads:
    """Train heads to the last epoch, all at once; a head that fails leaves the others alone.

    Args:
        features: (n, D) float32 of the training images, standardised.
        target: (n,) class indices, or (n, C) float labels.
        tasks: H heads whose recipes have `shared_settings` in common.
        batches: whose order images are shown in; what they read is not used.
        seed: of what losses draw; each head draws what it would alone.
        class_counts: C training images per class.
        mixing: mixes the batches.
        keeper: where the training is kept, and from where it goes on.
        callback: is told of each step and epoch; losses and records are the heads' means.
        validate: how good each head is after an epoch; written down, and used for nothing.

    Raises:
        Stopped: the keeper asked for it, and everything is saved.
        ValueError: recipes that differ in more than they may.
    """
    recipe = tasks[0].recipe
    if any(shared_settings(task.recipe) != shared_settings(recipe) for task in tasks):
        raise ValueError("expected heads whose recipes differ in rates, class weights and kind of head alone")
    device = accelerator.device
    features, target = features.to(device), target.to(device)
    stepper = HeadStepper(tasks, recipe, accelerator)
    losses = HeadLosses(tasks, class_counts, features)
    place = _resume(stepper, checkpointer, len(tasks))
    shares = [task.recipe.optimizer.lr / recipe.optimizer.lr for task in tasks]
    if callback:
        callback.begin(recipe.epochs, batches.steps)
    for epoch in range(place.epoch, recipe.epochs):
        losses.begin_epoch(epoch)
        order = torch.from_numpy(batches.order(epoch)).to(device)
        began, seen, stop = time.perf_counter(), 0, False
        total = torch.tensor(place.total, dtype=torch.float64)
        for step in range(place.step, batches.steps):
            so_far = epoch * batches.steps + step
            lr = learning_rate(so_far / batches.steps, recipe)
            chosen = order[step * recipe.batch_size :][: batches.size(step)]
            inputs, wanted = features[chosen], target[chosen]
            if mixing:
                inputs, wanted = mixing(inputs, wanted, epoch=epoch, step=so_far)
            values = losses(stepper.outputs(inputs), wanted, step_seed(seed, so_far, 0))
            stepper.update(values, lr)
            found = values.detach().cpu().double()
            total += found
            seen += len(chosen)
            place = _noted(place, found, epoch, step)
            if callback:
                callback.step(epoch, step, float(found.nanmean()), lr, seen)
            place = replace(place, epoch=epoch, step=step + 1, total=total.tolist())
            stop = checkpointer is not None and checkpointer.stop_requested()
            if step + 1 < batches.steps:
                _keep(stepper, checkpointer, place, stop)
        seconds = time.perf_counter() - began
        validations = validate(_trained(stepper, place)) if validate else [None] * len(tasks)
        records = [
            EpochRecord.of(epoch + 1, so_far + 1, mean, lr * own, seconds, seen / seconds, validation)
            for mean, own, validation in zip(
                (total / batches.steps).tolist(), shares, validations, strict=True
            )
        ]
        histories = [[*before, record] for before, record in zip(place.histories, records, strict=True)]
        place = _Place(epoch + 1, 0, [0.0] * len(tasks), histories, place.failed)
        if callback:
            callback.epoch(mean_record(records))
        if epoch + 1 < recipe.epochs:
            _keep(stepper, checkpointer, place, stop)
    return _trained(stepper, place)


def _noted(place: _Place, losses: Tensor, epoch: int, step: int) -> _Place:
    """The place with the heads (H,) that have just failed."""
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    new = {at: (float(losses[at]), epoch, step) for at in bad if at not in place.failed}
    return replace(place, failed=place.failed | new) if new else place


def _trained(stepper: HeadStepper, place: _Place) -> TrainedHeads:
    failures = [
        non_finite_loss(*place.failed[at]) if at in place.failed else None for at in range(len(place.total))
    ]
    return TrainedHeads(place.histories, failures, stepper.result)


def _keep(stepper: HeadStepper, checkpointer: Checkpointer | None, place: _Place, stop: bool) -> None:
    """Save if it is time to, and stop if that was asked for."""
    if checkpointer is None or not (stop or checkpointer.due()):
        return
    tensors, state = pack(stepper)
    checkpointer.save(tensors, {**state, **asdict(place), "failed": list(place.failed.items())})
    if stop:
        raise Stopped


def _resume(stepper: HeadStepper, checkpointer: Checkpointer | None, heads: int) -> _Place:
    kept = checkpointer.load() if checkpointer else None
    if kept is None:
        return _Place(0, 0, [0.0] * heads, [[] for _ in range(heads)])
    tensors, state = kept
    unpack(stepper, tensors, state)
    histories = [[EpochRecord(**record) for record in history] for history in state["histories"]]
    failed = {at: tuple(where) for at, where in state["failed"]}
    return _Place(state["epoch"], state["step"], state["total"], histories, failed)
