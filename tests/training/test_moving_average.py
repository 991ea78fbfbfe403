"""The moving average, against the recurrence written out and against torch's own averaging with the same function."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tametail.training.step import MovingAverage


def network() -> nn.Module:
    """Weights of several types and orders in memory, one of them tied, and buffers with a count among them."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 6), nn.Linear(6, 6).half()
    )
    model.tied = model[3].weight
    model.register_buffer("phases", torch.zeros(2, dtype=torch.complex64))
    model.register_buffer("transposed", torch.randn(5, 7).T)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def disturb(model: nn.Module, step: int) -> None:
    """Another value for everything, as a step of a training gives it."""
    generator = torch.Generator().manual_seed(step)
    for tensor in chain(model.parameters(), model.buffers()):
        noise = torch.randn(tensor.shape, generator=generator)
        tensor.copy_(noise * 0.1 + tensor if tensor.is_floating_point() else noise * 10)


def states(average: AveragedModel) -> Iterator[tuple[str, Tensor]]:
    return iter(average.state_dict().items())


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_is_the_recurrence(decay: float) -> None:
    model = network()
    average = MovingAverage(model, decay)
    expected: dict[str, Tensor] = {}
    for n in range(30):
        disturb(model, n)
        average.update_parameters(model)
        d = min(decay, (1 + n) / (10 + n))
        for name, value in model.state_dict().items():
            if n == 0 or not value.is_floating_point():
                expected[name] = value.double() if value.is_floating_point() else value.clone()
            else:
                expected[name] = d * expected[name] + (1 - d) * value.double()
    for name, value in average.module.state_dict().items():
        rounding = 1e-2 if value.dtype == torch.float16 else 1e-5
        torch.testing.assert_close(value, expected[name].to(value.dtype), rtol=rounding, atol=rounding)
    assert int(average.n_averaged) == 30


def test_it_is_torchs_averaging_with_this_function_to_the_bit() -> None:
    def follow(average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        if not current.is_floating_point():
            return current
        return average.lerp(current, 1 - min(0.9, (1 + int(updates)) / (10 + int(updates))))

    model = network()
    ours, torchs = MovingAverage(model, 0.9), AveragedModel(model, avg_fn=follow, use_buffers=True)
    for n in range(100):
        disturb(model, n)
        ours.update_parameters(model)
        torchs.update_parameters(model)
        for (name, value), (other, expected) in zip(states(ours), states(torchs), strict=True):
            assert name == other
            assert torch.equal(value, expected), name
            assert value.stride() == expected.stride(), name


def test_it_goes_on_from_its_state_to_the_bit() -> None:
    model = network()
    undisturbed, begun, resumed = (MovingAverage(model, 0.99) for _ in range(3))
    for n in range(20):
        disturb(model, n)
        undisturbed.update_parameters(model)
        if n < 7:
            begun.update_parameters(model)
        if n == 7:
            resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
        if n >= 7:
            resumed.update_parameters(model)
    for (name, value), (_, expected) in zip(states(resumed), states(undisturbed), strict=True):
        assert torch.equal(value, expected), name


def test_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        MovingAverage(nn.Linear(2, 2), 0.9).update_parameters(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
