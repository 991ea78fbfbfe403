"""A model's outputs for some rows of an array, in evaluation mode; with several processes each image is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

Transform = Callable[[Tensor, Tensor | None], Tensor]


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    array: NDArray[np.generic],
    rows: NDArray[np.int64],
    accelerator: Accelerator,
    *,
    transform: Transform | None = None,
    batch_size: int = 64,
    shared: bool = True,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Outputs (len(rows), C or D) float32 of the model in evaluation mode, in the order of ``rows``.

    Args:
        shared: with several processes each computes a part, and all get the whole; all of them must call. Without it this
            process computes everything itself.
    """
    world = accelerator.num_processes if shared else 1
    parts = np.array_split(rows, world)
    outputs = []
    with evaluating(model.to(accelerator.device)) as network:
        for chunk in _chunks(parts[accelerator.process_index if world > 1 else 0], batch_size):
            inputs = torch.from_numpy(np.ascontiguousarray(array[chunk])).to(accelerator.device)
            with accelerator.autocast():
                output = network(transform(inputs, None) if transform else inputs)
            outputs.append(output.float().cpu().numpy())
            if advance:
                advance(len(chunk))
    if world > 1:
        outputs = gather_object(outputs)
    return np.concatenate(outputs) if outputs else np.empty((0, 0), np.float32)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode, and back as it was afterwards."""
    before = model.training
    try:
        yield model.eval()
    finally:
        model.train(before)


def _chunks(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
