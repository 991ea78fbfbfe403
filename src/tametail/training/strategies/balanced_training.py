"""The short training of a classifier on features that stay as they are, with classes shown equally often.

Shape legend: n images, B batch, C classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from tametail.data.sampling.samplers import make_order
from tametail.losses import Loss

_LARGEST_BATCH, _SMALLEST_BATCH, _LEAST_STEPS = 128, 16, 16


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from ``seed`` on, and afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_balanced(
    module: nn.Module,
    inputs: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    epochs: int,
    lr: float,
    weight_decay: float,
    seed: int,
) -> None:
    """Train a module in place by AdamW, with a learning rate that falls along half a cosine to zero.

    An epoch shows n images, as many of each class. Batches have 128 images; of few images they are smaller, down to 16,
    and an epoch shows each more than once, so that it has 16 steps at least.

    Args:
        module: from inputs (B, ...) to outputs (B, C).
        inputs: (n, ...).
        target: (n,) classes.
        loss: of outputs (B, C) and classes (B,).
        epochs: passes.
        lr: learning rate at the start.
        weight_decay: of matrices; vectors and scales have none.
        seed: of the order, and of what a loss draws itself.
    """
    n = len(target)
    batch = min(max(n // _LEAST_STEPS, _SMALLEST_BATCH), _LARGEST_BATCH)
    often = max(math.ceil(_LEAST_STEPS * batch / n), 1)
    order = make_order("balanced", np.tile(target.numpy(), often), seed=seed)
    steps = epochs * math.ceil(len(order) / batch)
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with seeded(seed), torch.enable_grad():
        for epoch in range(epochs):
            for picked in torch.from_numpy(order.positions(epoch) % n).split(batch):
                optimizer.zero_grad(set_to_none=True)
                loss(module(inputs[picked]), target[picked]).backward()
                optimizer.step()
                schedule.step()
