"""Memory that runs short."""

from __future__ import annotations

import torch

from tametail.core.errors import TametailError


class MemoryShort(TametailError):
    """What is to be computed does not fit in memory, in however small parts it may be taken."""


def give_back_unused(device: torch.device) -> None:
    """Let the device have the memory back that tensors have left, so that smaller ones find room in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
