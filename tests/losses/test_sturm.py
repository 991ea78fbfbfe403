"""The counting of roots, on polynomials whose roots are known: it must be able to say that there are some."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fixtures.sturm import derivative, roots_between, value_at


def _with_roots(*roots: str) -> list[Fraction]:
    polynomial = [Fraction(-3)]
    for root in map(Fraction, roots):
        polynomial = [
            lower - root * same for lower, same in zip([0, *polynomial], [*polynomial, 0], strict=True)
        ]
    return polynomial


@pytest.mark.parametrize(
    ("roots", "between_two_and_three"),
    [
        ((), 0),
        (("5/2",), 1),
        (("1", "4"), 0),
        (("-1", "7/3", "9"), 1),
        (("21/10", "5/2", "29/10"), 3),
        (("20001/10000", "29999/10000"), 2),
        (("5/2", "5/2"), 1),  # a double root counts once
    ],
)
def test_roots_between_two_and_three(roots: tuple[str, ...], between_two_and_three: int) -> None:
    polynomial = _with_roots(*roots)
    assert all(value_at(polynomial, Fraction(root)) == 0 for root in roots)
    assert roots_between(polynomial, Fraction(2), Fraction(3)) == between_two_and_three


def test_complex_roots_are_not_counted() -> None:
    assert roots_between([Fraction(1), Fraction(0), Fraction(1)], Fraction(-9), Fraction(9)) == 0


def test_an_end_that_is_a_root_is_refused() -> None:
    with pytest.raises(ValueError, match="ends that are no roots"):
        roots_between(_with_roots("2"), Fraction(2), Fraction(3))


def test_derivative() -> None:
    assert derivative([Fraction(7), Fraction(5), Fraction(3)]) == [5, 6]
