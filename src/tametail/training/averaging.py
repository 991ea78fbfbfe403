"""An exponential moving average of a network in training."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


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
