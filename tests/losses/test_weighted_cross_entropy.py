"""Weighted cross-entropy against torch's, with scikit-learn's balanced weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from tametail.losses import WeightedCrossEntropyLoss, create_loss, inverse_frequency_weights

COUNTS = [50, 5, 2, 20]


def test_weights_are_scikit_learns() -> None:
    labels = np.repeat(np.arange(4), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    torch.testing.assert_close(inverse_frequency_weights(COUNTS), torch.from_numpy(expected))
    torch.testing.assert_close(inverse_frequency_weights(COUNTS, 0.5), torch.from_numpy(expected**0.5))


def test_a_class_without_samples_counts_as_one() -> None:
    weights = inverse_frequency_weights([6, 0, 2])
    torch.testing.assert_close(weights, torch.tensor([8 / 18, 8 / 3, 8 / 6], dtype=torch.float64))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_value_and_gradient_are_torchs(reduction: Any, power: float) -> None:
    z = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 0, 1, 2, 3, -100, 0, 3, 1])
    ours = WeightedCrossEntropyLoss(COUNTS, power=power, reduction=reduction)
    torchs = torch.nn.CrossEntropyLoss(weight=inverse_frequency_weights(COUNTS, power), reduction=reduction)
    found, expected = ours(z, target), torchs(z, target)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), z)[0], torch.autograd.grad(expected.sum(), z)[0]
    )


def test_equal_counts_and_power_0_are_cross_entropy() -> None:
    z, target = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    expected = create_loss("ce")(z, target)
    torch.testing.assert_close(WeightedCrossEntropyLoss([7, 7, 7])(z, target), expected)
    torch.testing.assert_close(create_loss("weighted_ce[power=0]", [9, 4, 1])(z, target), expected)
