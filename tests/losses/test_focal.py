"""Focal loss against its formula in plain floats."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import FocalLoss, focal_loss

LOGITS = (-6.0, -2.5, -0.3, 0.0, 0.8, 2.0, 7.0)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 0.5), (0.9, 0.0), (0.0, 3.0)])
def test_is_its_formula(alpha: float | None, gamma: float) -> None:
    logits = torch.tensor([LOGITS, LOGITS], dtype=torch.float64).T
    target = torch.tensor([[1, 0]]).expand(len(LOGITS), -1)
    expected = []
    for z in LOGITS:
        p = 1 / (1 + math.exp(-z))
        positive = -(1 if alpha is None else alpha) * (1 - p) ** gamma * math.log(p)
        negative = -(1 if alpha is None else 1 - alpha) * p**gamma * math.log(1 - p)
        expected.append(positive + negative)
    values = focal_loss(logits, target, alpha=alpha, gamma=gamma, reduction="none")
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_alpha_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"expected alpha in \[0, 1\] or None, got 1.5"):
        FocalLoss(alpha=1.5)
