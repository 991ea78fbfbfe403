"""Bad input and bad settings of any loss are named: expected ..., got ..."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from tametail.losses import Loss, create_loss, list_losses

COUNTS = [40, 7, 0, 1]


def _make(name: str, **params: Any) -> Loss:
    return create_loss(name, **{"class_counts": COUNTS, **params})


@pytest.mark.parametrize(
    ("input", "target", "error", "message"),
    [
        (torch.zeros(2, 4), torch.zeros(3, dtype=torch.long), ValueError, r"got \(3,\)"),
        (
            torch.zeros(2, 4),
            torch.zeros(2, 3),
            ValueError,
            r"\(2,\) or \(2, 4\) for input \(2, 4\), got \(2, 3\)",
        ),
        (torch.zeros(4), torch.zeros(4), ValueError, r"input of shape \(B, C\).*got \(4,\)"),
        (torch.zeros(2, 0), torch.zeros(2, 0), ValueError, "C >= 1"),
        (torch.zeros(2, 4, dtype=torch.long), torch.zeros(2), TypeError, "floating-point logits"),
        (torch.zeros(2, 4), torch.zeros(2), TypeError, "integer dtype, got torch.float32"),
        (torch.zeros(2, 4), [0, 1], TypeError, "got list"),
        ([[0.0, 1.0]], torch.zeros(1, dtype=torch.long), TypeError, "floating-point logits .*got list"),
        (torch.zeros(2, 4), torch.tensor([0, 4]), ValueError, "from 0 to 3 .* from 0 to 4"),
        (torch.zeros(2, 4), torch.tensor([-1, 3]), ValueError, "from -1 to 3"),
        (torch.zeros(2, 4), torch.full((2, 4), -1.0), ValueError, r"in \[0, 1\], or NaN"),
    ],
)
@pytest.mark.parametrize("name", list_losses())
def test_bad_batches_are_named(
    name: str, input: Any, target: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"expected.*{message}"):
        _make(name)(input, target)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"reduction": "average"}, ValueError),
        ({"ignore_index": 0.5}, TypeError),
        ({"class_counts": [3, -1]}, ValueError),
        ({"class_counts": [3.5, 1.0]}, ValueError),
        ({"class_counts": [0, 0]}, ValueError),
        ({"class_counts": [[1, 2]]}, ValueError),
        ({"class_counts": []}, ValueError),
        ({"class_counts": [True, False]}, TypeError),
        ({"class_counts": "many"}, TypeError),
    ],
)
@pytest.mark.parametrize("name", list_losses())
def test_bad_settings_are_named(name: str, params: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"expected .*, got "):
        _make(name, **params)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "2", True])
@pytest.mark.parametrize("name", list_losses())
def test_numbers_out_of_range_are_named(name: str, value: Any) -> None:
    parameters = inspect.signature(type(_make(name))).parameters
    number_names = [key for key, one in parameters.items() if "float" in str(one.annotation)]
    assert number_names
    for key in number_names:
        if value == -0.1 and key.startswith("epsilon"):
            continue  # coefficients of a polynomial
        with pytest.raises((ValueError, TypeError), match=f"expected .*{key}.*got {value!r}"):
            _make(name, **{key: value}, **({"variant": "code"} if (name, key) == ("alpa", "clip") else {}))


def test_numpys_numbers_are_numbers() -> None:
    loss = create_loss("asl", clip=np.float32(0.25), gamma_neg=np.int64(2), ignore_index=np.int64(-1))
    assert (loss.clip, loss.gamma_neg, loss.ignore_index) == (0.25, 2.0, -1)
    with pytest.raises(TypeError, match="expected a number for clip"):
        create_loss("asl", clip=np.bool_(True))
