"""A model's outputs for some rows of features or images, in evaluation mode, shared between processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from tametail.data.row_store import RowStore, as_rows
from tametail.training.hardware import OutOfMemory, empty_cache, is_out_of_memory

Transform = Callable[[Tensor, Tensor | None], Tensor]
_Compute = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    array: RowStore | NDArray[Any],
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
        batch_size: images per forward pass; halved repeatedly when out of memory.
        shared: with several processes each computes a part, and all get the full result; all must call it. Otherwise this
            process computes everything.

    Raises:
        OutOfMemory: one image at a time does not fit; raised in all processes that share the work.
    """
    world = accelerator.num_processes if shared else 1
    store = as_rows(array)
    asked = rows if len(rows) else np.arange(1)  # of no rows, the number of outputs
    part = np.array_split(asked, world)[accelerator.process_index if world > 1 else 0]

    def compute(chunk: NDArray[np.int64]) -> NDArray[np.float32]:
        inputs = torch.from_numpy(store.take(chunk)).to(accelerator.device)
        with accelerator.autocast():
            output: Tensor = network(transform(inputs, None) if transform else inputs)
        return output.float().cpu().numpy()

    done: list[NDArray[np.float32]] = []
    fits = True
    with eval_mode(model.to(accelerator.device)) as network:
        for output in _in_batches(part, batch_size, compute, accelerator.device):
            if output is None:
                fits = False
                break
            done.append(output)
            if advance:
                advance(len(output))
    own = done if fits else None
    every: list[list[NDArray[np.float32]] | None] = gather_object([own]) if world > 1 else [own]
    if any(of_one is None for of_one in every):
        raise OutOfMemory(
            "out of memory even for one image at a time; choose a smaller --image-size or --backbone"
        )
    joined = [output for of_one in every for output in of_one or ()]
    return np.concatenate(joined)[: len(rows)]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode inside the block; its mode is restored afterwards."""
    before = model.training
    try:
        yield model.eval()
    finally:
        model.train(before)


def _in_batches(
    rows: NDArray[np.int64], size: int, compute: _Compute, device: torch.device
) -> Iterator[NDArray[np.float32] | None]:
    """Outputs of the batches, whose size is halved when one does not fit; None where one image does not."""
    start = 0
    while start < len(rows):
        chunk = rows[start : start + size]
        try:
            output = compute(chunk)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            yield output
            start += len(chunk)
            continue
        empty_cache(device)
        if len(chunk) == 1:
            yield None
            return
        size = -(-len(chunk) // 2)
