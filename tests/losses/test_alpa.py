"""ALPA against its formulas written out term by term in plain floats, and against numbers done by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tametail.losses import ALPALoss, alpa_loss

LOGITS = (-6.0, -2.5, -0.3, 0.0, 0.8, 2.0, 7.0)


def _reference(z: float, y: int, params: dict[str, Any]) -> Any:
    """One term, by the table of the three variants, read literally."""
    p = 1 / (1 + math.exp(-z))
    alpha, beta = params.get("alpha", 0.875), params.get("beta", 1.625)
    gamma_pos, gamma_neg = params.get("gamma_pos", 0), params.get("gamma_neg", 4)
    variant = params.get("variant", "paper")
    q = min(1 - p + params.get("clip", 0.05), 1) if variant == "code" else 1 - p
    pt = p if y == 1 else q
    weight = (1 - pt) ** (gamma_pos if y == 1 else gamma_neg) if params.get("double_focus", True) else 1
    if variant == "pade":  # [1/1] of -log x about 1
        return weight * (
            alpha * (1 - p) ** gamma_pos * 2 * (1 - p) / (1 + p)
            if y
            else beta * p**gamma_neg * 2 * p / (2 - p)
        )
    value = 1.5 * alpha * q**gamma_pos * (1 - p) * weight if y else beta * p**gamma_neg * (1 - q) * weight
    return value * (params["lam"] - p) if "lam" in params and not y else value


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"gamma_pos": 0.3, "gamma_neg": 2.5},
        {"double_focus": False},
        {"gamma_pos": 3, "gamma_neg": 2, "alpha": 1.25, "beta": 2, "lam": 1.5},
        {"variant": "code"},
        {"variant": "code", "gamma_pos": 2, "gamma_neg": 0.5, "clip": 0.2},
        {"variant": "code", "gamma_pos": 1, "gamma_neg": 3, "double_focus": False},
        {"variant": "pade"},
        {"variant": "pade", "gamma_pos": 1.5, "gamma_neg": 0.5, "double_focus": False},
    ],
)
def test_every_variant_is_its_formula(params: dict[str, Any]) -> None:
    logits = torch.tensor([LOGITS, LOGITS], dtype=torch.float64).T
    target = torch.tensor([[1, 0]]).expand(len(LOGITS), -1)
    expected = [_reference(z, 1, params) + _reference(z, 0, params) for z in LOGITS]
    values = alpa_loss(logits, target, reduction="none", **params)
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_numbers_by_hand_at_logit_zero() -> None:
    logits = torch.zeros(1, 2, dtype=torch.float64)
    target = torch.tensor([0])
    assert alpa_loss(logits, target).item() == pytest.approx(1.5 * 0.875 / 2 + 1.625 / 512, rel=1e-15)
    assert alpa_loss(logits, target, preset="v1").item() == pytest.approx(0.75 + 1 / 512, rel=1e-15)
    v3 = 1.5 * 1.25 / 2**7 + 2 / 2**5 * (1.5 - 0.5)
    assert alpa_loss(logits, target, preset="v3").item() == pytest.approx(v3, rel=1e-15)
    pade = 0.875 * 2 / 3 + 1.625 / 2**8 * 2 / 3
    assert alpa_loss(logits, target, variant="pade").item() == pytest.approx(pade, rel=1e-15)


@pytest.mark.parametrize(("z", "slope"), [(-5.0, -0.0087), (-12.0, -8.1e-6)])
def test_hard_positives_are_given_up_as_documented(z: float, slope: float) -> None:
    logits = torch.tensor([[z]], dtype=torch.float64, requires_grad=True)
    alpa_loss(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(slope, rel=0.01)


def test_v3_never_rewards_a_confident_false_positive() -> None:
    logits = torch.linspace(-20, 20, 401, dtype=torch.float64)[:, None]
    values = alpa_loss(logits, torch.zeros(401, 1), preset="v3", reduction="none")
    assert (values.diff() >= 0).all()


def test_a_preset_gives_way_to_what_is_named() -> None:
    loss = ALPALoss(preset="v3", gamma_pos=0, lam=2)
    assert (loss.alpha, loss.beta, loss.gamma_pos, loss.gamma_neg, loss.lam) == (1.25, 2, 0, 2, 2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"variant": "padé"}, "variant to be one of paper, code, pade"),
        ({"preset": "v4"}, "preset to be one of v1, v2, v3"),
        ({"clip": 0.05}, "clip only with variant code"),
        ({"variant": "code", "clip": 1.0}, r"clip in \[0, 1\)"),
        ({"order": (1, 1)}, "order only with variant pade"),
        ({"variant": "pade", "order": (0, 1)}, "M from 1 and N from 0 to 8, got 0/1"),
        ({"variant": "code", "preset": "v3"}, "the released code has no v3"),
        ({"variant": "code", "lam": 2}, "the released code has no v3"),
        ({"lam": 0.9}, "lam >= 1"),
    ],
)
def test_parameters_that_do_not_fit_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        ALPALoss(**params)
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        alpa_loss(torch.zeros(1, 2), torch.tensor([0]), **params)


@pytest.mark.parametrize(
    "params", [{"double_focus": 1}, {"variant": "pade", "order": (1.0, 1)}, {"alpha": "1"}]
)
def test_types_that_do_not_fit_are_named(params: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="expected "):
        ALPALoss(**params)
