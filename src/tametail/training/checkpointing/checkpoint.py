"""Weights and checkpoints on disk, as safetensors (which cannot contain code), written atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import DataError, TametailError, explain_save_error
from tametail.core.regular_file import regular
from tametail.core.removal import remove
from tametail.core.run_files import CHECKPOINT_FILE, is_run_file

_KEY = "training"
_STATE = "state"  # the only key of the header's metadata: the order of several would vary from file to file


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

    Each is one safetensors file with the state as JSON in its header. A digest of all its bytes is part of its name, so
    that any damage is detected. While one is written, the folder needs space for three.

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
        number = _number(before[0]) + 1 if before else 1
        path = self.directory / f"checkpoint-{number:08}-{_digest(data)}.safetensors"
        with explain_save_error(path):
            write_atomically(path, data)
        retained = {path.name, (self._good or (before or [path])[0]).name}
        remove(
            self.directory, lambda name: CHECKPOINT_FILE.fullmatch(name) is not None and name not in retained
        )
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
        """Delete the checkpoints and the folder, ignoring errors; for finished runs."""
        remove(self.directory, is_run_file)
        self._good, self._begun = None, False

    def _files(self) -> list[Path]:
        """All checkpoints, newest first."""
        try:
            named = [path for path in self.directory.iterdir() if CHECKPOINT_FILE.fullmatch(path.name)]
        except OSError:
            return []
        return sorted(named, key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _read(path: Path) -> Checkpoint:
    with regular(path).open("rb") as handle:
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
        state: Mapping[str, Tensor] = load_file(regular(path))
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


class TrainingState(Protocol):
    """The parts with a state: model (unwrapped), loss, optimizer (possibly wrapped by accelerate), averaged model."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def loss(self) -> nn.Module: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def average(self) -> AveragedModel | None: ...


def pack(training: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state as tensors, not copied, and JSON values under the key ``training``.

    Includes the state of a gradient scaler where accelerate has given the optimizer one.
    """
    parts = {name: module.state_dict() for name, module in _modules(training)}
    optimizer = {"kind": _kind(training.optimizer), "shapes": _shapes(training.optimizer)}
    parts["optimizer"] = optimizer | {"state": training.optimizer.state_dict()}
    scaler = getattr(training.optimizer, "scaler", None)
    parts["scaler"] = scaler.state_dict() if scaler is not None else {}
    tensors: dict[str, Tensor] = {}
    return tensors, {_KEY: {name: _flatten(part, name, tensors) for name, part in parts.items()}}


def unpack(training: TrainingState, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Restore a state from `pack` into newly built parts.

    Raises:
        TametailError: it is the state of another model, loss or optimizer; nothing is changed then.
    """
    parts = {name: _rebuild(part, tensors) for name, part in state.get(_KEY, {}).items()}
    modules = dict(_modules(training))
    for name in ("model", "average", "loss"):
        expected = modules[name].state_dict() if name in modules else {}
        _check_same(name, _described(expected), _described(parts.get(name, {})))
    saved = parts.get("optimizer", {})
    _check_same("kind of optimizer", _kind(training.optimizer), saved.get("kind"))
    _check_same("groups of the optimizer", _shapes(training.optimizer), saved.get("shapes"))
    for name, module in modules.items():
        module.load_state_dict(parts[name])
    training.optimizer.load_state_dict(saved["state"])
    _lay_out_as_parameters(training.optimizer)
    scaler = getattr(training.optimizer, "scaler", None)
    if scaler is not None and parts["scaler"]:
        scaler.load_state_dict(parts["scaler"])


def _modules(training: TrainingState) -> Iterator[tuple[str, nn.Module]]:
    yield "model", training.model
    yield "loss", training.loss
    if training.average is not None:
        yield "average", training.average


def _kind(optimizer: Optimizer) -> str:
    return type(getattr(optimizer, "optimizer", optimizer)).__name__


def _shapes(optimizer: Optimizer) -> list[list[list[int]]]:
    return [[list(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]


def _described(state: Mapping[str, Any]) -> dict[str, str]:
    """Shapes and types, which two compatible states share."""
    return {
        name: f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        for name, value in state.items()
    }


def _check_same(what: str, expected: Any, found: Any) -> None:
    if expected == found:
        return
    if isinstance(expected, dict) and isinstance(found, dict):
        name = min(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        what, expected, found = f"{what}'s {name}", expected.get(name, "none"), found.get(name, "none")
    raise TametailError(
        f"the saved state is that of another training: expected as {what} {expected}, found {found}. "
        f"Delete the checkpoint to restart this run, or resume it with its original settings."
    )


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Give optimizer state of a parameter's shape the memory layout of the parameter.

    Files store tensors in row-major order; in another layout than the parameter's a step may differ in the last bit.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                laid_out = torch.empty_like(parameter, dtype=value.dtype, device=value.device)
                values[name] = laid_out.copy_(value).detach()


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Nested containers as JSON with their types; tensors are moved to ``tensors`` and replaced by their names."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _flatten(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_flatten(item, f"{name}.{at}", tensors) for at, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"expected tensors, numbers, texts and containers of them in {name}, got {type(value)}")


def _rebuild(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content].clone()
    if kind == "dict":
        return {key: _rebuild(item, tensors) for key, item in content}
    items = [_rebuild(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
