"""Poly-1 against its formula in plain floats, and its link."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tametail.losses import Poly1Loss, poly1_loss

LOGITS = [0.3, -1.2, 2.0]


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"epsilon": -1},
        {"epsilon": 2.5},
        {"base": "focal"},
        {"base": "focal", "gamma": 0.3, "epsilon": -0.5},
    ],
)
def test_is_its_formula(label: int, params: dict[str, Any]) -> None:
    s = math.exp(LOGITS[label]) / sum(math.exp(z) for z in LOGITS)
    gamma = params.get("gamma", 2) if params.get("base") == "focal" else 0
    expected = -((1 - s) ** gamma) * math.log(s) + params.get("epsilon", 1) * (1 - s) ** (gamma + 1)
    value = poly1_loss(torch.tensor([LOGITS], dtype=torch.float64), torch.tensor([label]), **params)
    assert value.item() == pytest.approx(expected, rel=1e-13)


def test_cross_entropy_does_not_use_gamma() -> None:
    values = {poly1_loss(torch.tensor([LOGITS]), torch.tensor([0]), gamma=g).item() for g in (0, 2, 5)}
    assert len(values) == 1


def test_the_link_of_cross_entropy_by_hand() -> None:
    s = torch.softmax(torch.tensor([LOGITS], dtype=torch.float64), dim=1)
    expected = s / (1 + 0.7 * s)
    found = Poly1Loss(epsilon=0.7).link(torch.tensor([LOGITS], dtype=torch.float64))
    torch.testing.assert_close(found, expected / expected.sum())


@pytest.mark.parametrize("base", ["ce", "focal"])
def test_the_link_at_its_lower_end_keeps_its_digits(base: Any) -> None:
    """With ε = -1 the slope of the loss vanishes at s = 1, where it is a difference of equal numbers."""
    link = Poly1Loss(base=base, epsilon=-1).link
    logits = torch.tensor([[9.0, 0.0, -1.0], [1e4, 0, 0]])
    torch.testing.assert_close(link(logits).double(), link(logits.double()), rtol=1e-3, atol=1e-7)
    assert link(logits)[1].tolist() == [1, 0, 0]


def test_epsilon_below_minus_one_would_reward_mistakes() -> None:
    with pytest.raises(ValueError, match=r"expected epsilon >= -1, got -1\.1"):
        Poly1Loss(epsilon=-1.1)
