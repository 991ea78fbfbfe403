"""One run: a fresh model, a loss and some batches in; a trained model and its history out.

The trainer knows no loss by name and sees no configuration but the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from tametail.data.loaders import Batch
from tametail.data.mixing import BatchMixing
from tametail.data.samplers import EpochOrder
from tametail.errors import TametailError, UsageError
from tametail.training.recipe import Recipe

Transform = Callable[[Tensor, Tensor | None], Tensor]


class NonFiniteError(TametailError):
    """A loss or prediction became NaN or infinite; the message names where."""


@dataclass(frozen=True)
class EpochRecord:
    """One line of history.csv: the mean training loss of an epoch and the rate at its end."""

    epoch: int
    step: int
    loss: float
    lr: float


def make_accelerator(recipe: Recipe, device: str) -> Accelerator:
    """The device and precision to compute with. ``device``: auto, cpu, cuda, mps ...

    Raises:
        UsageError: a device that this machine does not have.
    """
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision="bf16" if _bfloat16(recipe, device) else "no"
    )
    if device not in {"auto", accelerator.device.type}:
        raise UsageError(
            f"expected --device auto or one this machine has ({accelerator.device.type}), got {device!r}"
        )
    return accelerator


def _bfloat16(recipe: Recipe, device: str) -> bool:
    on_gpu = device != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return recipe.precision == "bfloat16" or (recipe.precision == "auto" and on_gpu)


def train(
    model: nn.Module,
    loss: nn.Module,
    batches: tuple[DataLoader[Batch], EpochOrder],
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    transform: Transform | None = None,
    mixing: BatchMixing | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> tuple[nn.Module, list[EpochRecord]]:
    """Train ``model`` to the last epoch; no epoch is chosen by looking at any result.

    Args:
        model: maps inputs to logits (B, C).
        loss: maps logits (B, C) and class indices (B,), or soft targets (B, C) with ``mixing``, to a scalar.
        batches: a loader and the sampler that orders it, from `training_batches`.
        transform: what is done to inputs on the device, given the epoch's draws for them.
        mixing: mixes what the transform gives.
        on_epoch: called after each epoch.

    Returns:
        The trained model (its averaged weights where the recipe has them) and one record per epoch.

    Raises:
        NonFiniteError: as soon as a loss is not finite.
    """
    loader, order = batches
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, recipe.optimizer.weight_decay), lr=recipe.optimizer.lr
    )
    network, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    loss = loss.to(accelerator.device)
    average = _averaged(model, recipe.ema_decay) if recipe.ema_decay else None
    steps_per_epoch = len(loader)
    history: list[EpochRecord] = []
    step = 0
    for epoch in range(recipe.epochs):
        network.train()
        order.set_epoch(epoch)
        total = 0.0
        for inputs, target, draws in loader:
            lr = learning_rate(step / steps_per_epoch, recipe)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with accelerator.autocast():
                if transform:
                    inputs = transform(inputs, draws)
                if mixing:
                    place = step * accelerator.num_processes + accelerator.process_index
                    inputs, target = mixing(inputs, target, epoch=epoch, step=place)
                logits = network(inputs)
            value = loss(logits.float(), target)
            total += _finite(value, epoch, step)
            accelerator.backward(value)
            if recipe.gradient_clip:
                accelerator.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if average:
                average.update_parameters(model)
        history.append(EpochRecord(epoch + 1, step, total / steps_per_epoch, lr))
        if on_epoch:
            on_epoch(history[-1])
    accelerator.free_memory()
    return (average.module if average else model), history


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers that follows quickly at first: d = min(decay, (1+n)/(10+n))."""

    def follow(average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        if not current.is_floating_point():
            return current
        return average.lerp(current, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))

    return AveragedModel(model, avg_fn=follow, use_buffers=True)


def learning_rate(epochs_done: float, recipe: Recipe) -> float:
    """A linear rise over the warm-up, then half a cosine down to zero at the last epoch."""
    peak = recipe.optimizer.lr
    warmup = min(recipe.warmup_epochs, recipe.epochs / 2)
    if epochs_done < warmup:
        return peak * (epochs_done + 1e-2) / (warmup + 1e-2)
    progress = (epochs_done - warmup) / (recipe.epochs - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _finite(value: Tensor, epoch: int, step: int) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise NonFiniteError(
            f"the loss became {number} at step {step + 1} (epoch {epoch + 1}). "
            f"Lower the learning rate (--lr), or change the loss's parameters."
        )
    return number


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices and kernels; leave biases and the scales of normalisation alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    array: NDArray[np.generic],
    rows: NDArray[np.int64],
    accelerator: Accelerator,
    *,
    transform: Transform | None = None,
    batch_size: int = 64,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Outputs (len(rows), C or D) float32 of the model in evaluation mode, in the order of ``rows``."""
    outputs = []
    with evaluating(model.to(accelerator.device)) as network:
        for chunk in _chunks(rows, batch_size):
            inputs = torch.from_numpy(np.ascontiguousarray(array[chunk])).to(accelerator.device)
            with accelerator.autocast():
                output = network(transform(inputs, None) if transform else inputs)
            outputs.append(output.float().cpu().numpy())
            if advance:
                advance(len(chunk))
    return np.concatenate(outputs) if outputs else np.empty((0, 0), np.float32)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode, and back as it was afterwards."""
    before = model.training
    try:
        yield model.eval()
    finally:
        model.train(before)


def _chunks(rows: NDArray[np.int64], size: int) -> Iterable[NDArray[np.int64]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def history_csv(history: list[EpochRecord]) -> str:
    """The history as CSV text with a header."""
    lines = ["epoch,step,loss,lr"]
    lines += [f"{r['epoch']},{r['step']},{r['loss']:.8g},{r['lr']:.6g}" for r in map(asdict, history)]
    return "\n".join(lines) + "\n"
