"""Outputs of a model when out of memory, and the state of the model afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tametail.training.hardware import OutOfMemory
from tametail.training.inference import predict_logits

ROWS = np.random.default_rng(0).permutation(90)
ARRAY = np.random.default_rng(1).normal(size=(90, 4)).astype(np.float32)


class Greedy(nn.Linear):
    """A layer that has memory for so many images, and keeps how many it was given."""

    def __init__(self, room: int, error: Exception | None = None) -> None:
        super().__init__(4, 3)
        self.room = room
        self.given: list[int] = []
        self.error = error or torch.OutOfMemoryError("no room")

    def forward(self, images: Tensor) -> Tensor:
        self.given.append(len(images))
        if len(images) > self.room:
            raise self.error
        return super().forward(images)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def expected(model: nn.Linear) -> np.ndarray:
    return (ARRAY @ model.weight.detach().numpy().T + model.bias.detach().numpy())[ROWS]


@pytest.mark.parametrize(
    ("room", "given"),
    [
        (64, [64, 26]),
        (33, [64, 32, 32, 26]),
        (20, [64, 32, 16, 16, 16, 16, 16, 10]),
        (1, [64, 32, 16, 8, 4, 2, *[1] * 90]),
    ],
)
def test_batches_are_halved_until_they_fit_and_no_image_is_lost(
    room: int, given: list[int], accelerator: Accelerator
) -> None:
    model = Greedy(room)
    done: list[int] = []
    logits = predict_logits(model, ARRAY, ROWS, accelerator, advance=done.append)
    np.testing.assert_allclose(logits, expected(model), rtol=1e-5, atol=1e-6)
    assert model.given == given
    assert sum(done) == 90


def test_the_systems_own_memory_counts_too(accelerator: Accelerator) -> None:
    model = Greedy(10, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
    np.testing.assert_allclose(
        predict_logits(model, ARRAY, ROWS, accelerator), expected(model), rtol=1e-5, atol=1e-6
    )


def test_no_room_for_one_image_is_told_in_words_and_leaves_the_mode(accelerator: Accelerator) -> None:
    model = Greedy(0)
    with pytest.raises(OutOfMemory, match=r"even for one image at a time.*--image-size or --backbone"):
        predict_logits(model, ARRAY, ROWS, accelerator)
    assert model.training


def test_other_errors_are_as_they_were(accelerator: Accelerator) -> None:
    model = Greedy(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        predict_logits(model, ARRAY, ROWS, accelerator)
    assert model.given == [64]
    assert model.training


def test_of_no_rows_there_are_still_columns(accelerator: Accelerator) -> None:
    empty = predict_logits(Greedy(9), ARRAY, ROWS[:0], accelerator)
    assert empty.shape == (0, predict_logits(Greedy(9), ARRAY, ROWS, accelerator).shape[1])
