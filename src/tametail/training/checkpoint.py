"""Weights on disk: safetensors (no code can hide in them), written so that a file is whole or absent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tametail.errors import DataError


def save_weights(module: nn.Module, path: Path) -> None:
    """Write all weights and buffers of ``module``."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(state, temporary)
    flush(temporary)
    os.replace(temporary, path)


def load_weights(module: nn.Module, path: Path) -> nn.Module:
    """Load what `save_weights` wrote into a module of the same shape.

    Raises:
        DataError: the file is absent or damaged, or holds the weights of another module.
    """
    try:
        state: Mapping[str, Tensor] = load_file(path)
        module.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(
            f"expected the weights of a trained model at {path}, but they cannot be used: {error}"
        ) from error
    return module


def flush(path: Path) -> None:
    """Have the system write a file or folder to the disk before anything later counts on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
