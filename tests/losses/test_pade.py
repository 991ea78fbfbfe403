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


@pytest.mark.parametrize("order", ORDERS)
def test_no_pole_between_zero_and_one_and_no_digits_lost_in_float32(order: tuple[int, int]) -> None:
    ratio = pade_ratio(order)
    if order[0] >= order[1]:
        assert min(ratio.denominator) > 0
    p = torch.linspace(0, 1, 1001, dtype=torch.float64)
    exact = ratio(p)
    assert exact.isfinite().all()
    assert (exact > 0).all()
    torch.testing.assert_close(ratio(p.float()).double(), exact, rtol=5e-6, atol=0)


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
