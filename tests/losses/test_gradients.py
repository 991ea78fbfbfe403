"""Slopes by one logit: against finite differences, automatic differentiation and closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses import create_loss, gradient_curve, list_losses
from tametail.losses.gradients import (
    Curve,
    alpa_described,
    asl_negative,
    cross_entropy_negative,
    figure1,
    focal_negative,
)

# No kink of a clip lies on it, nor within the step of a difference quotient.
Z = torch.linspace(-9.03, 9.11, 60, dtype=torch.float64)
P = torch.sigmoid(Z)


def _close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_the_comparison_can_fail() -> None:
    with pytest.raises(AssertionError):
        _close(Z, Z + 1e-9)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("name", list_losses())
def test_the_slope_is_the_difference_quotient(name: str, positive: bool) -> None:
    loss, step, z = create_loss(name, class_counts=[1, 1]), 1e-5, Z[::4]
    slope = gradient_curve(loss, z, positive=positive).gradient
    ahead, behind = (gradient_curve(loss, z + shift, positive=positive).value for shift in (step, -step))
    _close(slope, (ahead - behind) / (2 * step), 1e-8)


@pytest.mark.parametrize("name", list_losses())
def test_it_is_what_training_on_one_sample_feels(name: str) -> None:
    """A batch of one sample of the first of two classes, by the loss's own forward pass."""
    loss = create_loss(name, class_counts=[1, 1])
    for z in (-3.0, 0.4, 5.0):
        logits = torch.tensor([[z / loss.logit_scale, 0.0]], dtype=torch.float64, requires_grad=True)
        loss(logits, torch.tensor([0])).backward()
        assert logits.grad is not None
        curve = gradient_curve(loss, torch.tensor([z], dtype=torch.float64), positive=True)
        assert float(curve.gradient) == pytest.approx(float(logits.grad[0, 0]) / loss.logit_scale, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "positive", "slope"),
    [
        ("bce", True, P - 1),
        ("bce", False, P),
        ("ce", True, P - 1),
        ("ce", False, P),
        ("alpa", True, -1.5 * 0.875 * P * (1 - P)),
        ("alpa", False, 1.625 * 9 * P**9 * (1 - P)),
        ("ldam", True, torch.sigmoid(Z - 15) - 1),
    ],
)
def test_closed_forms(name: str, positive: bool, slope: Tensor) -> None:
    _close(gradient_curve(create_loss(name, class_counts=[1, 1]), Z, positive=positive).gradient, slope)


def test_a_prior_shifts_the_logit() -> None:
    """Three to one: log odds of 3 for one sigmoid per class, log priors whose difference is log 3 for a softmax."""
    shifted = torch.sigmoid(Z + torch.tensor(3.0, dtype=torch.float64).log())
    for name in ("bce", "ce"):
        _close(
            gradient_curve(create_loss(name, tau=1, class_counts=[3, 1]), Z, positive=False).gradient, shifted
        )


def test_a_stochastic_loss_has_the_same_curve_each_time_and_leaves_the_generator_alone() -> None:
    loss = create_loss("seql", class_counts=[1, 1000])
    before = torch.random.get_rng_state()
    first = gradient_curve(loss, Z[::9], positive=False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.gradient, gradient_curve(loss, Z[::9], positive=False).gradient)
    full = gradient_curve(create_loss("ce"), Z[::9], positive=False).gradient
    share = first.gradient / full
    assert ((share > 0) & (share < 1)).all(), "a rare class is left out in some of the draws"


def test_a_grid_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected z of shape \(N,\), got \(60, 1\)"):
        gradient_curve(create_loss("ce"), Z.unsqueeze(1), positive=True)


# The values as the paper writes them, for automatic differentiation; naive, so the grid stays where they are exact.
MIDDLE = torch.linspace(-4.4, 8.07, 50, dtype=torch.float64)
WRITTEN: list[tuple[Callable[[Tensor], Curve], Callable[[Tensor], Tensor]]] = [
    (alpa_described, lambda p: p**5),
    (lambda z: alpa_described(z, 0.5), lambda p: p**1.5),
    (asl_negative, lambda p: -((p - 0.01) ** 0.01) * torch.log(1 - (p - 0.01))),
    (lambda z: asl_negative(z, 4, 0.005), lambda p: -((p - 0.005) ** 4) * torch.log(1 - (p - 0.005))),
    (cross_entropy_negative, lambda p: -torch.log(1 - p)),
    (focal_negative, lambda p: -(p**0.5) * torch.log(1 - p)),
    (lambda z: focal_negative(z, 2), lambda p: -(p**2) * torch.log(1 - p)),
]


@pytest.mark.parametrize(("closed", "written"), WRITTEN)
def test_the_papers_terms_against_automatic_differentiation(
    closed: Callable[[Tensor], Curve], written: Callable[[Tensor], Tensor]
) -> None:
    z = MIDDLE.clone().requires_grad_()
    value = written(torch.sigmoid(z))
    slope = torch.autograd.grad(value.sum(), z)[0]
    _close(closed(MIDDLE).value, value.detach(), 1e-9)
    _close(closed(MIDDLE).gradient, slope, 1e-9)


@pytest.mark.parametrize(
    ("closed", "name", "params"),
    [
        (alpa_described, "alpa", {"preset": "v1", "double_focus": False}),
        (asl_negative, "asl", {"gamma_neg": 0.01, "clip": 0.01}),
        (cross_entropy_negative, "asl", {"gamma_neg": 0, "clip": 0}),
        (focal_negative, "focal", {"gamma": 0.5, "alpha": None}),
    ],
)
def test_the_papers_terms_are_losses_of_the_registry(
    closed: Callable[[Tensor], Curve], name: str, params: dict[str, object]
) -> None:
    curve = gradient_curve(create_loss(name, **params), Z, positive=False)
    _close(closed(Z).value, curve.value)
    _close(closed(Z).gradient, curve.gradient)


def test_the_described_slope_peaks_where_it_says() -> None:
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    for gamma in (1.0, 4.0):
        peak = torch.sigmoid(z[alpa_described(z, gamma).gradient.argmax()])
        assert float(peak) == pytest.approx((gamma + 1) / (gamma + 2), abs=1e-3)


def test_figure_1_has_the_captions_parameters_and_is_finite_everywhere() -> None:
    curves = figure1(torch.tensor([-800.0, -30.0, 0.0, 30.0, 800.0]))
    assert list(curves) == [
        "ALPA (γ⁻ = 4)",
        "ASL (m = 0.01, γ⁻ = 0.01)",
        "CE (m = 0, γ⁻ = 0)",
        "Focal (γ = 0.5)",
    ]
    assert all(torch.isfinite(part).all() for curve in curves.values() for part in curve)
    middle = {name: float(curve.gradient[2]) for name, curve in curves.items()}
    assert middle["ALPA (γ⁻ = 4)"] == pytest.approx(5 / 64)
    assert middle["CE (m = 0, γ⁻ = 0)"] == 0.5
    half = float(F.softplus(torch.zeros((), dtype=torch.float64)))
    assert middle["Focal (γ = 0.5)"] == pytest.approx(0.5**0.5 * (0.5 + 0.25 * half))
