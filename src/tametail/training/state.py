"""The state of a training run as named tensors and JSON, and its exact restoration.

It is the state between two steps, without gradients. Buffers outside a module's ``state_dict`` are not part of it, nor is
any random state: the random numbers of a step are a function of its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from tametail.core.errors import TametailError

_KEY = "training"


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
