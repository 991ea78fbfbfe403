"""APL and RAL against their formulas in plain floats."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tametail.losses import AsymmetricPolynomialLoss, RobustAsymmetricLoss, apl_loss, ral_loss

LOGITS = (-6.0, -2.9, -0.3, 0.0, 0.8, 2.0, 7.0)


def _reference(z: float, y: int, params: dict[str, Any], lam: float | None) -> float:
    p = 1 / (1 + math.exp(-z))
    q = min(1 - p + params.get("clip", 0.05), 1)
    if y:
        series = math.log(p) + params.get("epsilon_1", 1) * (1 - p)
        series += params.get("epsilon_2", -2.5) / 2 * (1 - p) ** 2
        return float(-((1 - p) ** params.get("gamma_pos", 0)) * series)
    value = -((1 - q) ** params.get("gamma_neg", 4)) * math.log(q)
    return float(value if lam is None else value * (lam - p) * p**2 * (lam - q))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"gamma_pos": 0.3, "gamma_neg": 2.5, "clip": 0.2},
        {"gamma_pos": 2, "clip": 0, "epsilon_1": 0.5, "epsilon_2": 3},
        {"gamma_neg": 0, "clip": 0.5, "epsilon_1": -1},
    ],
)
@pytest.mark.parametrize("lam", [None, 1.0, 1.5, 2.5])
def test_are_their_formulas(params: dict[str, Any], lam: float | None) -> None:
    logits = torch.tensor([LOGITS, LOGITS], dtype=torch.float64).T
    target = torch.tensor([[1, 0]]).expand(len(LOGITS), -1)
    expected = [_reference(z, 1, params, lam) + _reference(z, 0, params, lam) for z in LOGITS]
    if lam is None:
        values = apl_loss(logits, target, **params, reduction="none")
    else:
        values = ral_loss(logits, target, **params, lam=lam, reduction="none")
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-15)


def test_a_nearly_certain_positive_costs_as_its_square() -> None:
    """With the defaults the linear term is gone: 1.75 (1-p)² is left, and a third of the cube."""
    rest = 1e-3
    logits = torch.tensor([[-math.log(rest / (1 - rest))]], dtype=torch.float64)
    assert apl_loss(logits, torch.tensor([0])).item() == pytest.approx(1.75 * rest**2 + rest**3 / 3, rel=1e-5)


def test_a_positive_that_is_most_wrong_keeps_its_gradient() -> None:
    logits = torch.tensor([[-30.0]], requires_grad=True)
    apl_loss(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(-1, rel=1e-6)


@pytest.mark.parametrize("gamma_neg", [0, 0.3, 1, 2, 4.5])
@pytest.mark.parametrize("clip", [0, 0.05, 0.5])
def test_a_negative_is_never_rewarded_with_lambda_one_and_a_half(gamma_neg: float, clip: float) -> None:
    logits = torch.linspace(-20, 20, 401, dtype=torch.float64)[:, None]
    negatives = torch.zeros(401, 1)
    values = ral_loss(logits, negatives, gamma_neg=gamma_neg, clip=clip, reduction="none")
    assert (values.diff() >= -1e-14).all()


def test_with_lambda_one_a_confident_false_positive_is_rewarded() -> None:
    values = ral_loss(torch.tensor([[2.0], [9.0]]), torch.zeros(2, 1), lam=1, reduction="none")
    assert values[1] < values[0]


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected lam >= 1, got 0\.9"):
        RobustAsymmetricLoss(lam=0.9)
    with pytest.raises(ValueError, match=r"expected epsilon_2 .*got nan"):
        AsymmetricPolynomialLoss(epsilon_2=math.nan)
