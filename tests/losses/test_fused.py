"""The compiled form that a GPU gets, compiled for the CPU here."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from tametail.losses import create_loss
from tametail.losses.base import Loss
from tametail.losses.fused import fused, on_gpu


@pytest.mark.parametrize("name", ["alpa", "asl"])
def test_compiled_for_any_batch_it_agrees(name: str) -> None:
    torch._dynamo.reset()
    loss = create_loss(name)
    call = fused(Loss.forward)
    for samples in (6, 11):
        logits = torch.randn(samples, 4, requires_grad=True)
        target = torch.arange(samples) % 4
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own
            (found,) = torch.autograd.grad(call(loss, logits, target), logits)
        (expected,) = torch.autograd.grad(loss(logits, target), logits)
        torch.testing.assert_close(found, expected)


def test_where_the_compiler_fails_plain_operations_serve_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object, **__: object) -> object:
        def call(*_: object) -> Tensor:
            raise RuntimeError("no compiler\nsecond line")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    call = fused(Loss.forward)
    loss, logits, target = create_loss("asl"), torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.warns(UserWarning, match="unfused, as torch.compile failed: no compiler$"):
        value = call(loss, logits, target)
    torch.testing.assert_close(value, loss(logits, target))
    assert call(loss, logits, target) == value  # no second warning: it would be an error here


def test_a_bad_batch_is_the_batchs_fault_not_the_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = create_loss("alpa")
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    with pytest.raises(ValueError, match="expected target of shape"):
        fused(Loss.forward)(loss, torch.zeros(2, 3), torch.zeros(2, 4))


def test_a_cpu_does_not_ask_for_it() -> None:
    assert not on_gpu(torch.zeros(1))
