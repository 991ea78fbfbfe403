from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.swa_utils import AveragedModel

from tametail.core.errors import TametailError
from tametail.training.checkpointing.checkpoint import CheckpointStore, pack, unpack

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "adamw": lambda parameters: AdamW(parameters, lr=1e-2, weight_decay=0.05),
    "adam": lambda parameters: Adam(parameters, lr=1e-2, betas=(0.8, 0.99), amsgrad=True),
    "sgd": lambda parameters: SGD(parameters, lr=1e-2, momentum=0.9, nesterov=True),
    "plain sgd": lambda parameters: SGD(parameters, lr=1e-2),
    "rmsprop": lambda parameters: RMSprop(parameters, lr=1e-3, centered=True),
}


@pytest.fixture(autouse=True)
def _ready() -> None:
    Accelerator(cpu=True)  # its optimisers can be made only after it


class Remembering(nn.Module):
    """A loss with a state of its own, a tensor and another thing."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.last = 0.0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.seen += len(target)
        self.last = 0.5 * self.last + float(logits.detach().mean())
        return nn.functional.cross_entropy(logits * (1 + self.last), target)

    def get_extra_state(self) -> dict[str, float]:
        return {"last": self.last}

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.last = state["last"]


@dataclass
class Parts:
    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    average: AveragedModel | None = None


def parts(
    kind: str = "adamw", *, seed: int = 0, averaged: bool = True, features: int = 6, wrapped: bool = False
) -> Parts:
    """A small network with convolutions stored channels last, batch normalisation and a tied weight."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, features, 3),
        nn.BatchNorm2d(features),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, features),
        nn.Linear(features, features),
        nn.Linear(features, 4),
    )
    model[6].weight = model[5].weight
    model = model.to(memory_format=torch.channels_last)
    several = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": several[0]}, {"params": several[1], "weight_decay": 0.0, "lr_scale": 0.3}]
    optimizer = OPTIMIZERS[kind](groups)
    if wrapped:
        optimizer = AcceleratedOptimizer(optimizer)
    average = AveragedModel(model, avg_fn=_follow, use_buffers=True) if averaged else None
    return Parts(model, Remembering(), optimizer, average)


def _follow(average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
    if not current.is_floating_point():
        return current
    return average.lerp(current, 1 / (2 + int(updates)))


def steps(training: Parts, first: int, last: int) -> None:
    """Some steps, each with a batch and a rate that are functions of its number."""
    for step in range(first, last):
        torch.manual_seed(1000 + step)
        images = torch.randn(8, 3, 7, 7).to(memory_format=torch.channels_last)
        for group in training.optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        training.loss(training.model(images), torch.randint(4, (8,))).backward()
        nn.utils.clip_grad_norm_(training.model.parameters(), 0.5)
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        if training.average is not None:
            training.average.update_parameters(training.model)


def through_disk(training: Parts, fresh: Parts, folder: Path) -> None:
    """Bring the state of one training into another by way of a file."""
    tensors, state = pack(training)
    CheckpointStore(folder / "kept").save(tensors, {"epoch": 3} | state)
    found = CheckpointStore(folder / "kept").load()
    assert found is not None
    assert found.state["epoch"] == 3
    unpack(fresh, found.tensors, found.state)


def assert_same(a: Parts, b: Parts) -> None:
    """All tensors and numbers of two trainings are equal, as are the tensors' orders in memory."""
    (tensors, state), (others, other) = pack(a), pack(b)
    assert state == other
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name
        assert tensor.dtype == others[name].dtype, name
        assert tensor.stride() == others[name].stride(), name


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "accelerated"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_training_goes_on_bit_by_bit(tmp_path: Path, kind: str, wrapped: bool) -> None:
    undisturbed = parts(kind, wrapped=wrapped)
    steps(undisturbed, 0, 10)
    begun, fresh = parts(kind, wrapped=wrapped), parts(kind, seed=1, wrapped=wrapped)
    steps(begun, 0, 4)
    through_disk(begun, fresh, tmp_path)
    assert_same(begun, fresh)
    steps(fresh, 4, 10)
    assert_same(undisturbed, fresh)
    assert fresh.average is not None
    assert int(fresh.average.n_averaged) == 10
    assert fresh.model[6].weight is fresh.model[5].weight  # type: ignore[index]


def test_a_step_less_is_seen() -> None:
    a, b = parts(), parts()
    steps(a, 0, 4)
    steps(b, 0, 3)
    with pytest.raises(AssertionError):
        assert_same(a, b)


def test_the_state_before_the_first_step_is_one_too(tmp_path: Path) -> None:
    begun, fresh = parts(averaged=False), parts(seed=1, averaged=False)
    through_disk(begun, fresh, tmp_path)
    assert_same(begun, fresh)


def test_an_optimizer_with_lists_of_tensors_goes_on(tmp_path: Path) -> None:
    def make() -> Parts:
        torch.manual_seed(0)
        model = nn.Linear(5, 2)
        return Parts(model, nn.MSELoss(), LBFGS(model.parameters(), max_iter=3, history_size=4))

    def step(training: Parts, seed: int) -> None:
        inputs, target = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(seed)), torch.ones(9, 2)

        def closure() -> Tensor:
            training.optimizer.zero_grad()
            value: Tensor = training.loss(training.model(inputs[0]), target)
            value.backward()
            return value

        training.optimizer.step(closure)  # type: ignore[arg-type]

    begun, fresh = make(), make()
    for seed in (1, 2):
        step(begun, seed)
    through_disk(begun, fresh, tmp_path)
    for training in (begun, fresh):
        step(training, 3)
    assert_same(begun, fresh)


def test_a_gradient_scaler_goes_on(tmp_path: Path) -> None:
    def make() -> tuple[Parts, torch.amp.GradScaler]:
        plain = parts()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        return Parts(plain.model, plain.loss, AcceleratedOptimizer(plain.optimizer, scaler=scaler)), scaler

    (begun, scaler), (fresh, other) = make(), make()
    scaler.scale(torch.ones(()))
    scaler.update(2.0**7)
    through_disk(begun, fresh, tmp_path)
    assert other.get_scale() == 2.0**7
    assert other.state_dict() == scaler.state_dict()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"features": 7}, "model's 0.bias"),
        ({"kind": "sgd"}, "kind of optimizer"),
        ({"averaged": False}, "average's "),
    ],
)
def test_the_state_of_another_training_is_refused_and_changes_nothing(
    other: dict[str, Any], named: str
) -> None:
    begun, fresh = parts(), parts(**other)
    steps(begun, 0, 2)
    before = copy.deepcopy(fresh)
    with pytest.raises(TametailError, match=named):
        unpack(fresh, *pack(begun))
    assert_same(before, fresh)


def test_parameters_in_other_groups_and_foreign_states_are_refused() -> None:
    begun, fresh = parts(), parts()
    fresh.optimizer = OPTIMIZERS["adamw"](list(fresh.model.parameters()))
    with pytest.raises(TametailError, match="groups of the optimizer"):
        unpack(fresh, *pack(begun))
    with pytest.raises(TametailError, match="another training"):
        unpack(fresh, {}, {"epoch": 2})


def test_what_json_cannot_keep_is_refused() -> None:
    class Odd(nn.Module):
        def get_extra_state(self) -> object:
            return object()

    with pytest.raises(TypeError, match=r"loss\._extra_state"):
        pack(Parts(nn.Linear(2, 2), Odd(), SGD(nn.Linear(2, 2).parameters())))
