"""Weights and checkpoints on disk, as safetensors (which cannot contain code), written atomically."""

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

_STATE = "state"  # the only key of the header's metadata: the order of several would vary from file to file
_NAME = re.compile(r"checkpoint-(\d{8,})-([0-9a-f]{32})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """The saved state of a training run.

    Attributes:
        tensors, state: as given to `CheckpointStore.save`; tensors on the CPU.
        note: a warning about damaged checkpoints; empty if there were none.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    note: str = ""


class CheckpointStore:
    """The last two checkpoints of a training run, in a folder.

    Each is one safetensors file with the state as JSON in its header, so that tensors and state always match. A digest
    of all its bytes is part of its name, so that any damage is detected. While one is written, the folder needs space
    for three.

    Attributes:
        damaged: files that the last `load` could not use, with the reasons.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.damaged: tuple[str, ...] = ()
        self._good: Path | None = None  # last saved or loaded
        self._begun = False

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save tensors (of any device, layout and sharing) and a state of JSON values.

        Raises:
            TametailError: the disk is full, or the folder is missing or not writable. Earlier checkpoints are not
                changed.
        """
        data = _serialised(tensors, json.dumps(dict(state)))
        if not self._begun:
            with explain_save_error(self.directory):
                make_folder(self.directory)
            self._begun = True
        before = self._files()
        self._remove_all_but({*before})  # partial files of a killed process
        number = _number(before[0]) + 1 if before else 1
        path = self.directory / f"checkpoint-{number:08}-{_digest(data)}.safetensors"
        with explain_save_error(path):
            write_atomically(path, data)
        self._remove_all_but({path, self._good or (before or [path])[0]})
        self._good = path

    def load(self) -> Checkpoint | None:
        """The newest undamaged checkpoint, or None. Never raises because of a file's content."""
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
        note = f"in {self.directory} the newest checkpoint cannot be used: {'; '.join(damaged)}. Resuming from the previous one"
        return Checkpoint(checkpoint.tensors, checkpoint.state, note)

    def remove(self) -> None:
        """Delete the folder, ignoring errors; for finished runs."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._good, self._begun = None, False

    def _files(self) -> list[Path]:
        """All checkpoints, newest first."""
        try:
            named = [path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return []
        return sorted(named, key=_number, reverse=True)

    def _remove_all_but(self, retained: set[Path]) -> None:
        with suppress(OSError):
            for path in self.directory.iterdir():
                if path not in retained and (
                    _NAME.fullmatch(path.name) or path.name.startswith(".checkpoint-")
                ):
                    path.unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _read(path: Path) -> Checkpoint:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    if digest not in path.name:
        raise ValueError("its bytes differ from those that were saved")
    with safe_open(path, framework="pt") as file:
        state = json.loads((file.metadata() or {})[_STATE])
        return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, state)  # noqa: SIM118


def save_weights(module: nn.Module, path: Path) -> None:
    """Save all parameters and buffers of a module.

    Raises:
        TametailError: the file cannot be written; an existing one is not changed.
    """
    data = _serialised(module.state_dict())
    with explain_save_error(path):
        write_atomically(path, data)


def load_weights(module: nn.Module, path: Path) -> nn.Module:
    """Load the weights written by `save_weights` into a module, and return it.

    Raises:
        DataError: the file is missing or damaged, or has the weights of another module.
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
    """Tensors and state as the bytes of a safetensors file, in which no two tensors may share memory."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        place = flat.untyped_storage().data_ptr()
        own[name] = flat.clone() if place in seen else flat
        seen.add(place)
    serialised: bytes = save(own, None if state is None else {_STATE: state})
    return serialised
