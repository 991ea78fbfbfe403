"""ASL against its formula in plain floats, and the traps of its released code."""

from __future__ import annotations

import math

import pytest
import torch

from tametail.losses import asymmetric_loss

LOGITS = (-6.0, -2.9, -0.3, 0.0, 0.8, 2.0, 7.0)


def _reference(z: float, y: int, gamma_pos: float, gamma_neg: float, clip: float) -> float:
    p = 1 / (1 + math.exp(-z))
    q = min(1 - p + clip, 1)
    return -math.pow(1 - p, gamma_pos) * math.log(p) if y else -math.pow(1 - q, gamma_neg) * math.log(q)


@pytest.mark.parametrize("params", [(1, 4, 0.05), (0, 2, 0), (0.3, 0.5, 0.2), (2.5, 1, 0.5)])
def test_is_its_formula(params: tuple[float, float, float]) -> None:
    logits = torch.tensor([LOGITS, LOGITS], dtype=torch.float64).T
    target = torch.tensor([[1, 0]]).expand(len(LOGITS), -1)
    expected = [_reference(z, 1, *params) + _reference(z, 0, *params) for z in LOGITS]
    gamma_pos, gamma_neg, clip = params
    values = asymmetric_loss(
        logits, target, gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip, reduction="none"
    )
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-15)


def _slope(z: float, y: float, *, detach_focal_weight: bool = False) -> float:
    logits = torch.tensor([[z]], dtype=torch.float64, requires_grad=True)
    asymmetric_loss(logits, torch.tensor([[y]]), detach_focal_weight=detach_focal_weight).backward()
    assert logits.grad is not None
    return logits.grad.item()


def test_a_positive_that_is_most_wrong_keeps_its_gradient() -> None:
    assert _slope(-20.0, 1.0) == pytest.approx(-1, rel=1e-6)


def test_negatives_below_the_clip_have_no_gradient() -> None:
    assert _slope(math.log(0.049 / 0.951), 0.0) == 0
    assert _slope(math.log(0.051 / 0.949), 0.0) > 0


def test_detached_weight_changes_the_slope_and_not_the_value() -> None:
    p, q = 0.5, 0.55
    weight, slope_of_log = (1 - q) ** 4, p * (1 - p) / q
    assert _slope(0.0, 0.0, detach_focal_weight=True) == pytest.approx(weight * slope_of_log)
    full = weight * slope_of_log - 4 * (1 - q) ** 3 * math.log(q) * p * (1 - p)
    assert _slope(0.0, 0.0) == pytest.approx(full)
    values = {
        asymmetric_loss(torch.ones(1, 2), torch.tensor([0]), detach_focal_weight=flag).item()
        for flag in (True, False)
    }
    assert len(values) == 1


def test_the_flag_must_be_a_flag() -> None:
    with pytest.raises(TypeError, match="expected True or False for detach_focal_weight, got 1"):
        asymmetric_loss(torch.ones(1, 2), torch.tensor([0]), detach_focal_weight=1)  # type: ignore[arg-type]
