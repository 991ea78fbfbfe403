"""Single-label ASL against its formula in plain floats."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import asymmetric_single_label_loss

LOGITS = [0.3, -1.2, 2.0, 0.0]


@pytest.mark.parametrize("label", range(4))
@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "smoothing"), [(0, 4, 0.1), (1, 4, 0.1), (0.3, 0.5, 0.4), (2, 0, 0)]
)
def test_is_its_formula(label: int, gamma_pos: float, gamma_neg: float, smoothing: float) -> None:
    total = sum(math.exp(z) for z in LOGITS)
    expected = 0.0
    for c, z in enumerate(LOGITS):
        s = math.exp(z) / total
        weight = (1 - s) ** gamma_pos if c == label else s**gamma_neg
        smoothed = (1 - smoothing) * (c == label) + smoothing / 4
        expected -= smoothed * weight * math.log(s)
    value = asymmetric_single_label_loss(
        torch.tensor([LOGITS], dtype=torch.float64),
        torch.tensor([label]),
        gamma_pos=gamma_pos,
        gamma_neg=gamma_neg,
        label_smoothing=smoothing,
    )
    assert value.item() == pytest.approx(expected, rel=1e-13)


def test_without_smoothing_the_negatives_focus_does_nothing() -> None:
    values = {
        asymmetric_single_label_loss(
            torch.tensor([LOGITS]), torch.tensor([1]), gamma_neg=gamma_neg, label_smoothing=0
        ).item()
        for gamma_neg in (0, 1, 4)
    }
    assert len(values) == 1


def test_one_class_costs_nothing() -> None:
    assert asymmetric_single_label_loss(torch.tensor([[5.0]]), torch.tensor([0])).item() == 0
