"""Training a classifier on fixed features with class-balanced sampling.

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
from tametail.losses.validation import check_number

_MAX_BATCH, _MIN_BATCH, _MIN_STEPS = 128, 16, 16


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and restore its random state afterwards."""
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
    """Train a module in place by AdamW, with cosine annealing of the learning rate to zero.

    An epoch samples n images, equally many per class. Batches have 128 images; with few images they are smaller, down to
    16, and an epoch samples more than n, so that it has at least 16 steps.

    Args:
        module: maps inputs (B, ...) to outputs (B, C).
        inputs: (n, ...).
        target: (n,) classes.
        loss: maps outputs (B, C) and classes (B,) to a scalar.
        epochs: number of epochs.
        lr: initial learning rate.
        weight_decay: of matrices; vectors and scalars have none.
        seed: of the sampling order, and of the loss's own random numbers.
    """
    n = len(target)
    batch = min(max(n // _MIN_STEPS, _MIN_BATCH), _MAX_BATCH)
    copies = max(math.ceil(_MIN_STEPS * batch / n), 1)
    order = make_order("balanced", np.tile(target.numpy(), copies), seed=seed)
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
            for chosen in torch.from_numpy(order.positions(epoch) % n).split(batch):
                optimizer.zero_grad(set_to_none=True)
                loss(module(inputs[chosen]), target[chosen]).backward()
                optimizer.step()
                schedule.step()


def check_positive(name: str, value: object) -> None:
    """Check that a parameter is a finite number > 0."""
    if check_number(name, value) == 0:
        raise ValueError(f"expected {name} > 0, got {value!r}")


def check_positive_int(name: str, value: object) -> None:
    """Check that a parameter is a whole number >= 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number for {name}, got {value!r}")
    if value < 1:
        raise ValueError(f"expected {name} >= 1, got {value}")
