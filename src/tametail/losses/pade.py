"""Padé approximants of -log p about p = 1, exact in rational arithmetic.

[M/N] is the ratio of polynomials of degrees M and N whose Taylor series agrees with that of
-log p = Σ_{k>=1} (1-p)^k / k up to the power M + N. As -log 1 = 0, it has the factor 1 - p:

    A(p) = (1-p) R(p),    [1/1]: R = 2 / (1 + p),    [2/2]: R = 3 (1 + p) / (1 + 4p + p²).

A negative's -log(1-p) about p = 0 is the mirror image, A(1-p). The tests prove for all 72 orders that A has no pole in
[0, 1] and falls strictly to A(1) = 0, with A'(1) = -1. R is separate from its factor, which a loss knows to full
precision as sigmoid(-z); the relative errors of R and R' are a few eps everywhere in [0, 1].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from fractions import Fraction
from itertools import zip_longest
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

MAX_DEGREE = 8

_ZERO = Fraction(0)


class PaperForm(NamedTuple):
    """(a_0 + a_1 x + ...) / (1 + b_1 x + ...), Eqs. 6 and 9: log p at x = p (L+), log(1-p) at x = 1-p (L-)."""

    numerator: tuple[Fraction, ...]
    denominator: tuple[Fraction, ...]


# Section 4.2, as printed: L+ = -1.5 + 1.5 p, L- = -1 + (1-p). They are not the [1/1] approximant of the logarithm,
# which is (-2 + 2x) / (1 + x) for both: L- is the [1/0] approximant and L+ is 1.5 times that, see docs/paper.md.
PRINTED_POSITIVE = PaperForm((Fraction(-3, 2), Fraction(3, 2)), (Fraction(1), _ZERO))
PRINTED_NEGATIVE = PaperForm((Fraction(-1), Fraction(1)), (Fraction(1), _ZERO))


def paper_form(order: tuple[int, int]) -> PaperForm:
    """The exact approximant of +log x about x = 1 in the paper's form, the same for L+ and L-.

    Raises as :func:`pade_coefficients` does.
    """
    numerator, denominator = (_in_powers_of_p(coefficients) for coefficients in pade_coefficients(order))
    first = denominator[0]
    return PaperForm(tuple(-a / first for a in numerator), tuple(b / first for b in denominator))


class PadeRatio(NamedTuple):
    """R of A(p) = (1-p) R(p), with coefficients in rising powers of x: p, or 1-p where R is a polynomial.

    ``change`` is the numerator of R'; its denominator is that of R, squared. A difference of two quotients would lose
    precision.
    """

    numerator: tuple[float, ...]
    denominator: tuple[float, ...]
    change: tuple[float, ...]

    def __call__(self, p: Tensor) -> Tensor:
        """R at probabilities p of any shape."""
        x = self._variable(p)
        value = _polynomial(self.numerator, x)
        return value if len(self.denominator) == 1 else value / _polynomial(self.denominator, x)

    def derivative(self, p: Tensor) -> Tensor:
        """R' (by p) at probabilities p of any shape. With it A' = -R + (1-p) R'."""
        x = self._variable(p)
        change = _polynomial(self.change, x)
        return change if len(self.denominator) == 1 else change / _polynomial(self.denominator, x).square()

    def _variable(self, p: Tensor) -> Tensor:
        """The variable without cancellation: for N = 0 all coefficients in 1-p (1, 1/2, 1/3, ...) are positive."""
        return 1 - p if len(self.denominator) == 1 else p


def pade_ratio(order: tuple[int, int]) -> PadeRatio:
    """R of the approximant of ``order`` (M, N), computed once; raises as :func:`pade_coefficients` does."""
    _check_order(order)
    return _ratio(*order)


@functools.cache
def _ratio(m: int, n: int) -> PadeRatio:
    above, below = pade_coefficients((m, n))
    numerator, denominator = above[1:], below
    if n == 0:
        change = [-value for value in _derived(numerator)]
    else:
        numerator, denominator = _in_powers_of_p(numerator), _in_powers_of_p(denominator)
        change = _difference(
            _product(_derived(numerator), denominator), _product(numerator, _derived(denominator))
        )
    return PadeRatio(*(tuple(map(float, part)) for part in (numerator, denominator, change)))


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
    taylor = {k: Fraction(1, k) if k > 0 else _ZERO for k in range(-n, m + n + 1)}
    system = [[taylor[m + i - j] for j in range(1, n + 1)] + [-taylor[m + i]] for i in range(1, n + 1)]
    denominator = [Fraction(1), *_solve(system)]
    return _product(denominator, [taylor[k] for k in range(m + 1)])[: m + 1], denominator


def _check_order(order: tuple[int, int]) -> None:
    if not (
        isinstance(order, tuple | list) and len(order) == 2 and all(type(degree) is int for degree in order)
    ):
        raise TypeError(f"expected order as a pair (M, N) of integers, got {order!r}")
    m, n = order
    if not (1 <= m <= MAX_DEGREE and 0 <= n <= MAX_DEGREE):
        raise ValueError(f"expected order (M, N) with M from 1 and N from 0 to {MAX_DEGREE}, got {m}/{n}")


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


def _in_powers_of_p(coefficients: Sequence[Fraction]) -> list[Fraction]:
    """Σ_i a_i (1-p)^i in rising powers of p, by the binomial theorem."""
    size = len(coefficients)
    return [
        (-1) ** power * sum((coefficients[i] * comb(i, power) for i in range(power, size)), _ZERO)
        for power in range(size)
    ]


def _derived(coefficients: Sequence[Fraction]) -> list[Fraction]:
    return [power * value for power, value in enumerate(coefficients)][1:] or [_ZERO]


def _product(left: Sequence[Fraction], right: Sequence[Fraction]) -> list[Fraction]:
    total = [_ZERO] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            total[i + j] += a * b
    return total


def _difference(left: Sequence[Fraction], right: Sequence[Fraction]) -> list[Fraction]:
    """left - right, without leading zeros."""
    total = [a - b for a, b in zip_longest(left, right, fillvalue=_ZERO)]
    while len(total) > 1 and total[-1] == 0:
        total.pop()
    return total


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Horner's scheme."""
    *lower, top = coefficients
    value = torch.full_like(x, top)
    for step, coefficient in enumerate(reversed(lower)):
        value = (value * x if step else x * top) + coefficient
    return value
