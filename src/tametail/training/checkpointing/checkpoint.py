"""Weights and checkpoints on disk: safetensors (no code can hide in them), written so that a file is whole or absent."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import DataError, explain_save_error

_STATE = "state"  # the one key of the header's metadata: the order of several would change from file to file
_NAME = re.compile(r"checkpoint-(\d{8,})-([0-9a-f]{32})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """What a training can go on from.

    Attributes:
        tensors, state: as they were given to `CheckpointStore.save`, all of one moment; tensors on the CPU.
        note: what the user should know of how it was found; empty when all is well.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    note: str = ""


class CheckpointStore:
    """The checkpoints of one training, in a folder of their own: the newest, and the one before it.

    Each is one safetensors file with the state as JSON in its header, so that tensors and state cannot be of different
    moments. The digest of all its bytes is a part of its name, so that it, too, comes with the file in one step and
    leaves no byte unwatched. While one is written, the folder needs room for three.

    Attributes:
        damaged: names of files that the last `load` found unusable.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.damaged: tuple[str, ...] = ()
        self._good: Path | None = None  # what was last saved or loaded
        self._begun = False

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep tensors (any device, layout and sharing) and a state of JSON values under text keys.

        Raises:
            TametailError: the disk is full, or the folder is gone or cannot be written. The checkpoints saved before
                are untouched.
        """
        data = _serialised(tensors, json.dumps(dict(state)))
        if not self._begun:
            with explain_save_error(self.directory):
                make_folder(self.directory)
            self._begun = True
        before = self._files()
        self._remove_all_but({*before})  # what a killed process left half-written takes room
        number = _number(before[0]) + 1 if before else 1
        path = self.directory / f"checkpoint-{number:08}-{_digest(data)}.safetensors"
        with explain_save_error(path):
            write_atomically(path, data)
        self._remove_all_but({path, self._good or (before or [path])[0]})
        self._good = path

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None. No file, whatever it holds, makes this fail."""
        self._good, damaged = None, []
        checkpoint = None
        for path in self._files():
            try:
                checkpoint = _read(path)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                damaged.append(f"{path.name} ({error})")
                continue
            self._good = path
            break
        self.damaged = tuple(damaged)
        if checkpoint is None or not damaged:
            return checkpoint
        note = f"in {self.directory} the newest checkpoint cannot be used: {'; '.join(damaged)}. Going on from the one before"
        return Checkpoint(checkpoint.tensors, checkpoint.state, note)

    def remove(self) -> None:
        """Delete the folder, as far as that is possible: for when the training has its result."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._good, self._begun = None, False

    def _files(self) -> list[Path]:
        """All checkpoints, newest first."""
        try:
            named = [path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return []
        return sorted(named, key=_number, reverse=True)

    def _remove_all_but(self, kept: set[Path]) -> None:
        with suppress(OSError):
            for path in self.directory.iterdir():
                if path not in kept and (_NAME.fullmatch(path.name) or path.name.startswith(".checkpoint-")):
                    path.unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _read(path: Path) -> Checkpoint:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    if digest not in path.name:
        raise ValueError("its bytes are not those that were saved")
    with safe_open(path, framework="pt") as file:
        state = json.loads((file.metadata() or {})[_STATE])
        return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, state)  # noqa: SIM118


def save_weights(module: nn.Module, path: Path) -> None:
    """Write all weights and buffers of ``module``.

    Raises:
        TametailError: the file cannot be written; what was there before is kept.
    """
    data = _serialised(module.state_dict())
    with explain_save_error(path):
        write_atomically(path, data)


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


def _serialised(tensors: Mapping[str, Tensor], state: str | None = None) -> bytes:
    """Tensors and state as the bytes of a safetensors file, which lets no two tensors share memory."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        place = flat.untyped_storage().data_ptr()
        own[name] = flat.clone() if place in seen else flat
        seen.add(place)
    serialised: bytes = save(own, None if state is None else {_STATE: state})
    return serialised
