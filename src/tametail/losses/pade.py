"""Padé approximants of -log p about p = 1, exact in rational arithmetic.

[M/N] is the ratio of polynomials of degrees M and N whose Taylor series agrees with that of
-log p = Σ_{k>=1} (1-p)^k / k up to the power M + N. As -log 1 = 0, it has the factor 1 - p:

    A(p) = (1-p) R(p),    [1/1]: R = 2 / (1 + p),    [2/2]: R = 3 (1 + p) / (1 + 4p + p²).

R is kept apart from its factor, which a loss knows to full precision as sigmoid(-z), and in powers of p, where
the coefficients of its denominator are positive for M >= N, so that no digits cancel anywhere in [0, 1].
"""

from __future__ import annotations

from fractions import Fraction
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

MAX_DEGREE = 8


class PadeRatio(NamedTuple):
    """R of A(p) = (1-p) R(p): coefficients in rising powers of p; the denominator is positive on [0, 1]."""

    numerator: tuple[float, ...]
    denominator: tuple[float, ...]

    def __call__(self, p: Tensor) -> Tensor:
        """R at probabilities p of any shape."""
        return _polynomial(self.numerator, p) / _polynomial(self.denominator, p)

    def slope(self, p: Tensor) -> Tensor:
        """R' at probabilities p of any shape. With it A' = -R + (1-p) R'."""
        below = _polynomial(self.denominator, p)
        change = _polynomial(_derived(self.denominator), p) * self(p)
        return (_polynomial(_derived(self.numerator), p) - change) / below


def pade_ratio(order: tuple[int, int]) -> PadeRatio:
    """R of the approximant of ``order`` (M, N); raises as :func:`pade_coefficients` does."""
    numerator, denominator = pade_coefficients(order)
    return PadeRatio(_in_powers_of_p(numerator[1:]), _in_powers_of_p(denominator))


def pade_coefficients(order: tuple[int, int]) -> tuple[list[Fraction], list[Fraction]]:
    """Exact coefficients of [m/n] in rising powers of u = 1 - p, the denominator's first being 1.

    The denominator b solves Σ_{j=1..n} b_j c_{m+i-j} = -c_{m+i} for i = 1..n, with c_k = 1/k the Taylor
    coefficients (0 for k <= 0); the numerator is the series times the denominator, cut after degree m.

    Returns:
        The m + 1 coefficients of the numerator (the first is 0) and the n + 1 of the denominator.

    Raises:
        TypeError: ``order`` is not a pair of integers.
        ValueError: m is not in 1..8 or n not in 0..8.
    """
    _check_order(order)
    m, n = order
    system = [[_taylor(m + i - j) for j in range(1, n + 1)] + [-_taylor(m + i)] for i in range(1, n + 1)]
    denominator = [Fraction(1), *_solve(system)]
    numerator = [
        sum((denominator[j] * _taylor(i - j) for j in range(min(i, n) + 1)), Fraction(0))
        for i in range(m + 1)
    ]
    return numerator, denominator


def _check_order(order: tuple[int, int]) -> None:
    if not (
        isinstance(order, tuple | list) and len(order) == 2 and all(type(degree) is int for degree in order)
    ):
        raise TypeError(f"expected order as a pair (M, N) of integers, got {order!r}")
    m, n = order
    if not (1 <= m <= MAX_DEGREE and 0 <= n <= MAX_DEGREE):
        raise ValueError(f"expected order (M, N) with M from 1 and N from 0 to {MAX_DEGREE}, got {m}/{n}")


def _taylor(k: int) -> Fraction:
    return Fraction(1, k) if k > 0 else Fraction(0)


def _solve(rows: list[list[Fraction]]) -> list[Fraction]:
    """Gauss-Jordan elimination of a regular system given as rows with the right-hand side last."""
    for column in range(len(rows)):
        pivot = next(row for row in range(column, len(rows)) if rows[row][column] != 0)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for row in range(len(rows)):
            if row != column:
                factor = rows[row][column]
                rows[row] = [value - factor * top for value, top in zip(rows[row], rows[column], strict=True)]
    return [row[-1] for row in rows]


def _in_powers_of_p(coefficients: list[Fraction]) -> tuple[float, ...]:
    """Σ_i a_i (1-p)^i in rising powers of p, by the binomial theorem, rounded at the very end."""
    size = len(coefficients)
    return tuple(
        float(
            (-1) ** power * sum((coefficients[i] * comb(i, power) for i in range(power, size)), Fraction(0))
        )
        for power in range(size)
    )


def _derived(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    """The derivative's coefficients; that of a constant is 0."""
    return tuple(power * value for power, value in enumerate(coefficients))[1:] or (0.0,)


def _polynomial(coefficients: tuple[float, ...], p: Tensor) -> Tensor:
    """Horner's scheme."""
    value = torch.full_like(p, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * p + coefficient
    return value
