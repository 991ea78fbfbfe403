"""What Padé approximants of the logarithm are and are not, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

from fixtures.sturm import roots_between, value_at
from tametail.losses.pade import (
    MAX_DEGREE,
    PRINTED_NEGATIVE,
    PRINTED_POSITIVE,
    PaperForm,
    pade_coefficients,
    paper_form,
)

ORDERS = list(product(range(1, MAX_DEGREE + 1), range(MAX_DEGREE + 1)))
ZERO, ONE = Fraction(0), Fraction(1)


def _derived(form: PaperForm) -> PaperForm:
    """The derivative of a ratio of polynomials, as another."""
    above, below = form
    size = len(above) + 2 * len(below)
    terms = [ZERO] * size
    for i, a in enumerate(above):
        for j, b in enumerate(below):
            if i + j:
                terms[i + j - 1] += (i - j) * a * b
    square = [ZERO] * size
    for i, a in enumerate(below):
        for j, b in enumerate(below):
            square[i + j] += a * b
    while len(terms) > 1 and terms[-1] == 0:
        terms.pop()
    return PaperForm(tuple(terms), tuple(square))


def _at(form: PaperForm, x: Fraction) -> Fraction:
    return value_at(form.numerator, x) / value_at(form.denominator, x)


def _value_slope_curvature(form: PaperForm, x: Fraction = ONE) -> list[Fraction]:
    slope = _derived(form)
    return [_at(form, x), _at(slope, x), _at(_derived(slope), x)]


def _fractions(*values: str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, values))


# The 72 approximants between 0 and 1. PaperForm is -A: + log x about x = 1.


@pytest.mark.parametrize("order", ORDERS)
def test_the_denominator_has_no_root_from_zero_to_one(order: tuple[int, int]) -> None:
    denominator = paper_form(order).denominator
    assert roots_between(denominator, ZERO, ONE) == 0
    assert value_at(denominator, ZERO) == 1
    assert value_at(denominator, ONE) > 0


@pytest.mark.parametrize("order", ORDERS)
def test_the_approximant_falls_strictly_to_zero(order: tuple[int, int]) -> None:
    """A' has no root in [0, 1] and is negative at both ends; A(1) = 0. So A > 0 below 1."""
    form = paper_form(order)
    slope = _derived(form)
    assert roots_between(slope.numerator, ZERO, ONE) == 0
    assert _at(form, ONE) == 0
    assert _at(slope, ONE) == 1
    assert _at(slope, ZERO) > 0
    assert _at(form, ZERO) < 0


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_left_of_the_pole_of_the_logarithm(order: tuple[int, int]) -> None:
    """A(0) = H_M + H_N and A'(0) = -(M + N + 2MN) for M >= N; with M < N the values are smaller."""
    m, n = order
    form = paper_form(order)
    harmonic = sum((Fraction(1, k) for k in [*range(1, m + 1), *range(1, n + 1)]), ZERO)
    value, steepness = -_at(form, ZERO), _at(_derived(form), ZERO)
    if m >= n:
        assert (value, steepness) == (harmonic, m + n + 2 * m * n)
    else:
        assert value < harmonic
        assert steepness < m + n + 2 * m * n


# The paper's form, and the coefficients it prints.


@pytest.mark.parametrize("order", ORDERS)
def test_the_paper_form_is_minus_the_approximant(order: tuple[int, int]) -> None:
    numerator, denominator = pade_coefficients(order)
    form = paper_form(order)
    assert (len(form.numerator), len(form.denominator), form.denominator[0]) == (
        order[0] + 1,
        order[1] + 1,
        1,
    )
    for p in _fractions("0", "1/7", "1/2", "1"):
        assert _at(form, p) == -value_at(numerator, 1 - p) / value_at(denominator, 1 - p)


def test_first_order_has_the_logarithms_value_slope_and_curvature() -> None:
    form = paper_form((1, 1))
    assert form == PaperForm(_fractions("-2", "2"), _fractions("1", "1"))
    assert _value_slope_curvature(form) == [0, 1, -1]


def test_the_printed_coefficients_are_lines_that_miss_slope_and_curvature() -> None:
    assert _value_slope_curvature(PRINTED_POSITIVE) == [0, Fraction(3, 2), 0]
    assert _value_slope_curvature(PRINTED_NEGATIVE) == [0, 1, 0]
    assert _at(PRINTED_NEGATIVE, Fraction(1, 3)) == _at(paper_form((1, 0)), Fraction(1, 3))
    for printed in (PRINTED_POSITIVE, PRINTED_NEGATIVE):
        assert printed != paper_form((1, 1))


def test_matching_equation_10_in_powers_of_p_gives_neither() -> None:
    """(a0 + a1 x) - (1 + b1 x) (x-1 - (x-1)²/2) has no term up to x² for one choice alone."""
    literal = PaperForm(_fractions("-3/2", "13/8"), _fractions("1", "1/4"))
    equation_10 = PaperForm(_fractions("-3/2", "2", "-1/2"), _fractions("1"))
    assert _value_slope_curvature(literal, ZERO) == _value_slope_curvature(equation_10, ZERO)
    assert _at(literal, ONE) == Fraction(1, 10)
    # What the printed L+ has in common with Eq. 10: the two ends.
    assert [_at(PRINTED_POSITIVE, x) for x in (ZERO, ONE)] == [_at(equation_10, x) for x in (ZERO, ONE)]


def test_derived_is_a_derivative() -> None:
    """Of x²/(1 + x): (x² + 2x) / (1 + x)²."""
    slope = _derived(PaperForm(_fractions("0", "0", "1"), _fractions("1", "1")))
    assert slope.numerator == (0, 2, 1)
    assert _at(slope, Fraction(2)) == Fraction(8, 9)
