"""Checks of hyper-parameters, with errors that state what was expected and what was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

from tametail.losses.terms import REDUCTIONS, any_true

ClassCounts = Sequence[int] | Tensor


def check_number(name: str, value: object, low: float = 0.0, high: float = math.inf) -> float:
    """Return a finite number in [low, high) as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"expected a number for {name}, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and low <= number < high):
        expected = f">= {low:g}" if high == math.inf else f"in [{low:g}, {high:g})"
        raise ValueError(f"expected {name} {'to be finite' if low == -math.inf else expected}, got {value!r}")
    return number


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that a value is one of the given words."""
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Check that a value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"expected True or False for {name}, got {value!r}")


def check_common(reduction: object, ignore_index: object) -> None:
    """Check the parameters ``reduction`` and ``ignore_index``."""
    check_choice("reduction", reduction, REDUCTIONS)
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral):
        raise TypeError(f"expected an integer for ignore_index, got {ignore_index!r}")


def check_class_counts(class_counts: ClassCounts) -> Tensor:
    """Return training samples per class as an int64 tensor (C,): whole numbers >= 0, not all of them 0."""
    try:
        counts = torch.as_tensor(class_counts)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"expected class_counts as a sequence of C whole numbers, got {class_counts!r}"
        ) from error
    if counts.dtype == torch.bool or counts.is_complex():
        raise TypeError(f"expected class_counts as whole numbers, got {counts.dtype}")
    if counts.ndim != 1 or counts.numel() == 0:
        raise ValueError(f"expected class_counts of shape (C,) with C >= 1, got {tuple(counts.shape)}")
    if any_true((counts < 0) | (counts % 1 != 0)):
        raise ValueError(f"expected class_counts as whole numbers >= 0, got {counts.tolist()}")
    if any_true((counts == 0).all()):
        raise ValueError(f"expected at least one class with samples in class_counts, got {counts.tolist()}")
    return counts.to(torch.int64)
