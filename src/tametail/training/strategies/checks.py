"""Checks of strategies' parameters."""

from __future__ import annotations

from tametail.losses.validation import check_number


def check_positive(name: str, value: object) -> None:
    """A finite number > 0."""
    if check_number(name, value) == 0:
        raise ValueError(f"expected {name} > 0, got {value!r}")


def check_whole(name: str, value: object) -> None:
    """A whole number >= 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number for {name}, got {value!r}")
    if value < 1:
        raise ValueError(f"expected {name} >= 1, got {value}")
