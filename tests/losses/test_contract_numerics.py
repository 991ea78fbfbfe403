"""What every loss promises of its numbers: dtypes, extremes, and a gradient that is the derivative."""

from __future__ import annotations

import pytest
import torch

from fixtures.zoo import (
    INDICES,
    Choice,
    all_exponents,
    differentiated_whole,
    gradient,
    logits,
    make,
    one_hot,
    soft,
    value_of,
    variants,
)
from tametail.losses import Loss

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture(params=variants())
def chosen(request: pytest.FixtureRequest) -> Choice:
    choice: Choice = request.param
    return choice


@pytest.fixture
def loss(chosen: Choice) -> Loss:
    return make(chosen)


@pytest.mark.parametrize("dtype", DTYPES)
def test_value_in_at_least_float32_and_gradient_in_the_inputs_dtype(
    chosen: Choice, dtype: torch.dtype
) -> None:
    # A stochastic loss draws other numbers in float64 than in float32.
    loss = make(chosen).eval()
    z = logits(dtype=dtype)
    exact_value, exact_slope = gradient(loss, z.double(), INDICES)
    value, slope = gradient(loss, z, INDICES)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert slope.dtype == dtype
    torch.testing.assert_close(value.double(), exact_value, rtol=2e-6, atol=1e-6)
    tolerance = max(torch.finfo(dtype).eps, 1e-6)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=tolerance, atol=tolerance)


def test_autocast_changes_nothing(loss: Loss) -> None:
    z = logits(dtype=torch.float32)
    plain = gradient(loss, z, INDICES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = gradient(loss, z, INDICES)
    assert under[0].dtype == torch.float32
    torch.testing.assert_close(under, plain, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits_stay_finite_for_every_gamma_and_clip(chosen: Choice, dtype: torch.dtype) -> None:
    edges = torch.tensor([0.0, 2.944439, 5, 17, 40, 90, 120, 800, 1e4])  # sigmoid(-2.944439) = 0.05
    row = torch.cat([edges, -edges]).to(dtype)
    extreme = torch.stack([row, row.flip(0), row.roll(5), row.roll(9)], dim=1)
    labels = torch.arange(len(row)) % 4
    mixed = one_hot(labels).double().lerp(torch.tensor(0.3).double(), 0.5)
    for choice in all_exponents(chosen):
        for target in (labels, mixed):
            value, slope = gradient(make(choice), extreme, target)
            assert value.isfinite(), choice
            assert slope.isfinite().all(), choice


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_links_of_extreme_logits_are_probabilities(chosen: Choice, dtype: torch.dtype) -> None:
    edges = torch.tensor([0.0, 5, 17, 40, 90, 120, 800, 1e4], dtype=dtype)
    row = torch.cat([edges, -edges])
    extreme = torch.stack([row, row.flip(0), row.roll(5), row.roll(9)], dim=1)
    for choice in all_exponents(chosen):
        found = make(choice).link(extreme)
        assert ((found >= 0) & (found <= 1 + 1e-6)).all(), choice


@pytest.mark.parametrize("chosen", differentiated_whole())
def test_gradient_is_the_derivative(chosen: Choice) -> None:
    for choice in all_exponents(chosen)[::7]:
        loss = make(choice)
        assert torch.autograd.gradcheck(lambda z: value_of(loss, z, soft(3)), logits(3))  # noqa: B023
