"""Hill loss against its formula in plain floats."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import HillLoss, hill_loss

LOGITS = (-6.0, -2.5, -0.3, 0.0, 0.8, 2.0, 7.0)


@pytest.mark.parametrize(("lam", "margin", "gamma"), [(1.5, 1, 2), (1, 0, 0), (2.5, 0.3, 0.5), (1.5, 3, 4.5)])
def test_is_its_formula(lam: float, margin: float, gamma: float) -> None:
    logits = torch.tensor([LOGITS, LOGITS], dtype=torch.float64).T
    target = torch.tensor([[1, 0]]).expand(len(LOGITS), -1)
    expected = []
    for z in LOGITS:
        p, shifted = 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(margin - z))
        expected.append(-((1 - shifted) ** gamma) * math.log(shifted) + (lam - p) * p**2)
    values = hill_loss(logits, target, lam=lam, margin=margin, gamma=gamma, reduction="none")
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def _slope(z: float, y: int) -> float:
    logits = torch.tensor([[z]], requires_grad=True)
    hill_loss(logits, torch.tensor([[y]])).backward()
    assert logits.grad is not None
    return logits.grad.item()


def test_a_confident_false_positive_is_left_alone() -> None:
    assert _slope(0.0, 0) == pytest.approx(3 * 0.5**2 * (1 - 0.5) * 0.5)
    assert abs(_slope(12.0, 0)) < 1e-4


def test_a_positive_that_is_most_wrong_keeps_its_gradient_in_float32() -> None:
    assert _slope(-150.0, 1) == pytest.approx(-1)


def test_negatives_never_cost_less_than_nothing() -> None:
    with pytest.raises(ValueError, match=r"expected lam >= 1, got 0\.5"):
        HillLoss(lam=0.5)
