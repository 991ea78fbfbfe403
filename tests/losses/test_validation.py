"""Bad settings of losses are errors that state what was expected and what was given."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from tametail.losses import BalancedSoftmaxLoss, LogitAdjustedLoss, create_loss, list_losses

COUNTS = [40, 7, 0, 1]


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "2", True])
@pytest.mark.parametrize("name", list_losses())
def test_numbers_out_of_range_are_errors(name: str, value: Any) -> None:
    parameters = inspect.signature(type(create_loss(name, COUNTS))).parameters
    numbers = [key for key, one in parameters.items() if "float" in str(one.annotation)]
    assert numbers
    for key in numbers:
        if value == -0.1 and key.startswith("epsilon"):
            continue  # coefficients of a polynomial
        other: dict[str, Any] = {"variant": "code"} if (name, key) == ("alpa", "clip") else {}
        with pytest.raises((ValueError, TypeError), match=f"expected .*{key}.*got {value!r}"):
            create_loss(name, COUNTS, **other, **{key: value})


def test_numpys_numbers_are_numbers() -> None:
    loss = create_loss("asl", clip=np.float32(0.25), gamma_neg=np.int64(2), ignore_index=np.int64(-1))
    assert (loss.clip, loss.gamma_neg, loss.ignore_index) == (0.25, 2.0, -1)
    with pytest.raises(TypeError, match="expected a number for clip"):
        create_loss("asl", clip=np.bool_(True))


def test_errors_name_the_class_that_was_created() -> None:
    with pytest.raises(
        ValueError, match=r"^BalancedSoftmaxLoss \(balanced_softmax\) expects class_counts, .*None$"
    ):
        BalancedSoftmaxLoss()
    with pytest.raises(
        ValueError, match=r"^LogitAdjustedLoss \(logit_adjusted\) expects class_counts, .*None$"
    ):
        LogitAdjustedLoss(tau=0.5)
    with pytest.raises(ValueError, match=r"^FocalLoss \(focal\) with tau=0\.5 expects class_counts, .*None$"):
        create_loss("focal", tau=0.5)
    with pytest.raises(
        ValueError,
        match=r"^BalancedSoftmaxLoss \(balanced_softmax\) expects input of shape \(B, 3\) .* got \(2, 4\)$",
    ):
        BalancedSoftmaxLoss([10, 5, 1])(torch.zeros(2, 4), torch.tensor([0, 1]))


def test_class_counts_come_first_where_they_are_needed_and_are_shown() -> None:
    loss = BalancedSoftmaxLoss([10, 5, 1])
    assert repr(loss) == (
        "BalancedSoftmaxLoss(class_counts=[10, 5, 1], tau=1.0, reduction='mean', ignore_index=-100)"
    )
    many = BalancedSoftmaxLoss(range(100, 0, -1))
    assert "class_counts=[100, 99, 98, 97, 96, 95, 94, 93, 92, 91, ...]" in repr(many)
    with pytest.raises(TypeError, match="positional argument"):
        create_loss("ce").__class__([1.0, 2.0])  # torch's first argument is weight
