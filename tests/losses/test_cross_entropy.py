"""Cross-entropies by hand; against torch in test_identities.py."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import binary_cross_entropy_loss, cross_entropy_loss

LOGITS = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)  # softmax 1/4, 3/4; sigmoid 1/2, 3/4


def test_cross_entropy_by_hand() -> None:
    assert cross_entropy_loss(LOGITS, torch.tensor([0])).item() == pytest.approx(math.log(4))
    smoothed = 0.95 * math.log(4) + 0.05 * math.log(4 / 3)
    assert cross_entropy_loss(LOGITS, torch.tensor([0]), label_smoothing=0.1).item() == pytest.approx(
        smoothed
    )


def test_binary_cross_entropy_by_hand() -> None:
    assert binary_cross_entropy_loss(LOGITS, torch.tensor([0])).item() == pytest.approx(
        math.log(2) + math.log(4)
    )


def test_binary_label_smoothing_does_not_depend_on_the_number_of_classes() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), 0.0]], dtype=torch.float64)
    smoothed = 2 * math.log(2) + 0.95 * math.log(4) + 0.05 * math.log(4 / 3)
    value = binary_cross_entropy_loss(logits, torch.tensor([0]), label_smoothing=0.1)
    assert value.item() == pytest.approx(smoothed)


def test_multi_hot_cross_entropy_sums_the_positives() -> None:
    value = cross_entropy_loss(LOGITS, torch.tensor([[1, 1]]))
    assert value.item() == pytest.approx(math.log(4) + math.log(4 / 3))


def test_an_unknown_label_leaves_its_class_in_the_softmax() -> None:
    target = torch.tensor([[1.0, torch.nan]], dtype=torch.float64)
    assert cross_entropy_loss(LOGITS, target).item() == pytest.approx(math.log(4))


def test_label_smoothing_below_one() -> None:
    with pytest.raises(ValueError, match=r"expected label_smoothing in \[0, 1\), got 1"):
        cross_entropy_loss(LOGITS, torch.tensor([0]), label_smoothing=1)
