"""Roots of polynomials counted in exact arithmetic by Sturm's theorem (1829): a proof, where sampling is a guess.

Coefficients are fractions in rising powers.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

Polynomial = Sequence[Fraction]


def value_at(polynomial: Polynomial, x: Fraction) -> Fraction:
    total = Fraction(0)
    for coefficient in reversed(polynomial):
        total = total * x + coefficient
    return total


def derivative(polynomial: Polynomial) -> list[Fraction]:
    return [power * coefficient for power, coefficient in enumerate(polynomial)][1:]


def roots_between(polynomial: Polynomial, low: Fraction, high: Fraction) -> int:
    """How many distinct real roots lie in the open interval; neither end may be one."""
    if value_at(polynomial, low) == 0 or value_at(polynomial, high) == 0:
        raise ValueError(f"expected ends that are no roots, got {low} and {high}")
    chain = _chain(polynomial)
    return _sign_changes(chain, low) - _sign_changes(chain, high)


def _chain(polynomial: Polynomial) -> list[Polynomial]:
    chain: list[Polynomial] = [polynomial, derivative(polynomial)]
    while chain[-1]:
        # Scaling by a positive number changes no sign and keeps the fractions short.
        rest = [-coefficient for coefficient in _remainder(chain[-2], chain[-1])]
        chain.append([coefficient / abs(rest[-1]) for coefficient in rest])
    return chain[:-1]


def _remainder(dividend: Polynomial, divisor: Polynomial) -> list[Fraction]:
    rest = list(dividend)
    while len(rest) >= len(divisor):
        factor, shift = rest[-1] / divisor[-1], len(rest) - len(divisor)
        for power, coefficient in enumerate(divisor):
            rest[power + shift] -= factor * coefficient
        while rest and rest[-1] == 0:
            rest.pop()
    return rest


def _sign_changes(chain: Sequence[Polynomial], x: Fraction) -> int:
    values = [value for value in (value_at(polynomial, x) for polynomial in chain) if value != 0]
    return sum(left * right < 0 for left, right in pairwise(values))
