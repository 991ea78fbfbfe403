"""Padé approximants of -log p about 1, in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
import torch

from tametail.losses.pade import MAX_DEGREE, pade_coefficients, pade_ratio

ORDERS = list(product(range(1, MAX_DEGREE + 1), range(MAX_DEGREE + 1)))


def test_one_one_is_the_textbook_form() -> None:
    ratio = pade_ratio((1, 1))
    p = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(ratio(p), 2 / (1 + p))


def test_two_two_is_the_textbook_form() -> None:
    p = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(pade_ratio((2, 2))(p), 3 * (1 + p) / (1 + 4 * p + p**2))


@pytest.mark.parametrize("order", ORDERS)
def test_the_series_agree_up_to_the_order_in_exact_arithmetic(order: tuple[int, int]) -> None:
    """numerator - denominator * Σ u^k / k has no term up to the power M + N."""
    numerator, denominator = pade_coefficients(order)
    assert (len(numerator), len(denominator)) == (order[0] + 1, order[1] + 1)
    assert denominator[0] == 1
    for power in range(sum(order) + 1):
        product_term = sum(
            (b * Fraction(1, power - j) for j, b in enumerate(denominator) if power > j), Fraction(0)
        )
        assert product_term == (numerator[power] if power < len(numerator) else 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", ORDERS)
def test_no_digits_are_lost_between_zero_and_one(order: tuple[int, int], dtype: torch.dtype) -> None:
    """Against R and R' of the very same p in rational arithmetic; errors in units of the dtype's eps."""
    ratio = pade_ratio(order)
    ends = 2.0 ** -torch.tensor([1, 4, 9, 14, 19, 23, 40, 120], dtype=torch.float64)
    p = torch.cat([torch.linspace(0, 1, 15, dtype=torch.float64), ends, 1 - ends]).to(dtype)
    exact = [_value_and_slope(order, Fraction(x)) for x in p.tolist()]
    eps = Fraction(torch.finfo(dtype).eps)
    hardest = order in ((1, 7), (1, 8))
    for computed, which, limit in ((ratio(p), 0, 4), (ratio.derivative(p), 1, 15 if hardest else 6)):
        assert computed.dtype == dtype
        for value, pair in zip(computed.tolist(), exact, strict=True):
            assert abs(Fraction(value) - pair[which]) <= limit * eps * abs(pair[which])


def _value_and_slope(order: tuple[int, int], p: Fraction) -> tuple[Fraction, Fraction]:
    """R and R' by u = 1-p, from the published coefficients of A = u R."""
    numerator, denominator = pade_coefficients(order)
    u = 1 - p
    above, above_slope = _value_and_derivative(numerator[1:], u)
    below, below_slope = _value_and_derivative(denominator, u)
    return above / below, -(above_slope * below - above * below_slope) / below**2


def _value_and_derivative(coefficients: list[Fraction], x: Fraction) -> tuple[Fraction, Fraction]:
    value = slope = Fraction(0)
    for coefficient in reversed(coefficients):
        value, slope = value * x + coefficient, slope * x + value
    return value, slope


@pytest.mark.parametrize("order", ORDERS)
def test_slope_is_the_derivative_of_the_ratio_and_gives_that_of_the_approximant(
    order: tuple[int, int],
) -> None:
    ratio = pade_ratio(order)
    p = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(ratio(p).sum() + 0 * p.sum(), p)
    torch.testing.assert_close(ratio.derivative(p.detach()), by_autograd, rtol=1e-13, atol=0)
    (whole,) = torch.autograd.grad(((1 - p) * ratio(p)).sum(), p)
    torch.testing.assert_close(-ratio(p) + (1 - p) * ratio.derivative(p), whole, rtol=1e-13, atol=0)


def test_shape_is_kept_and_an_empty_batch_allowed() -> None:
    for order in ((1, 0), (1, 1), (3, 0)):
        for shape in ((), (0, 5), (2, 3)):
            p = torch.full(shape, 0.25)
            assert pade_ratio(order)(p).shape == pade_ratio(order).derivative(p).shape == shape


def test_relative_accuracy_next_to_one() -> None:
    """-log p for 1 - p = 1e-12, where the plain difference 1 - p has kept four digits."""
    u = torch.tensor([1e-12], dtype=torch.float64)
    assert (u * pade_ratio((2, 2))(1 - u)).item() == pytest.approx(-math.log1p(-1e-12), rel=1e-14)


@pytest.mark.parametrize(
    ("order", "error"),
    [((0, 1), ValueError), ((9, 1), ValueError), ((1, -1), ValueError), ((1,), TypeError), ((1, 1.0), TypeError), ("11", TypeError)],
)  # fmt: skip
def test_bad_orders_are_named(order: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"expected order .*got"):
        pade_coefficients(order)


def test_a_ratio_is_computed_once_and_its_order_is_always_checked() -> None:
    assert pade_ratio((8, 8)) is pade_ratio([8, 8])
    for order in ((8.0, 8.0), (True, True), (9, 1)):
        with pytest.raises((TypeError, ValueError), match="expected order"):
            pade_ratio(order)
