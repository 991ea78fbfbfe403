"""Devices that are there, and wishes that cannot be met."""

from __future__ import annotations

import pytest
import torch

from tametail.core.errors import UsageError
from tametail.training.hardware import (
    Hardware,
    broadcast,
    check_one_process,
    is_out_of_memory,
    make_accelerator,
)
from tametail.training.recipe import load_recipe


def test_an_absent_device_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"one this machine has \(.*\), got 'cuda'"):
            make_accelerator(load_recipe("head"), "cuda")


def test_a_precision_that_the_device_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match="without a CUDA GPU, got float16"):
        make_accelerator(load_recipe("quick", assignments=["precision=float16"]), "cpu")
    half = load_recipe("quick", assignments=["precision=float16"])
    assert make_accelerator(half, "cpu", training=False).mixed_precision == "no"
    assert make_accelerator(load_recipe("quick"), "cpu").mixed_precision == "no"
    asked = load_recipe("quick", assignments=["precision=bfloat16"])
    assert make_accelerator(asked, "cpu").mixed_precision == "bf16"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"micro_batch": 0}, "--micro-batch of at least 1 image, got 0"),
        ({"workers": -1}, "--workers of 0 to 256 processes, got -1"),
    ],
)
def test_numbers_that_cannot_be_are_named(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Hardware(**wrong)  # type: ignore[arg-type]


def test_one_process_agrees_with_itself() -> None:
    assert broadcast({"a": 1}, make_accelerator(load_recipe("head"), "cpu")) == {"a": 1}


def test_short_memory_is_told_from_other_errors() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: ..."))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_what_one_process_does_alone_is_refused_to_several(monkeypatch: pytest.MonkeyPatch) -> None:
    check_one_process("predict")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process to predict, got several"):
        check_one_process("predict")
