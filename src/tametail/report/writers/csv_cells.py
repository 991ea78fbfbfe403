"""Cells of CSV files: a column's name and its text."""

from __future__ import annotations

import math

from tametail.evaluation import Estimate

Cells = list[tuple[str, str]]  # names of odd classes may repeat, so not a dict
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def guarded(cell: str) -> str:
    """A spreadsheet runs a cell that starts like a formula; an apostrophe makes it text."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def estimate_cells(column: str, estimate: Estimate | None) -> Cells:
    """A value with its limits, ``column``, ``column_low`` and ``column_high``; empty where there is none."""
    parts = (("", "value"), ("_low", "low"), ("_high", "high"))
    return [
        (column + suffix, six_decimals(getattr(estimate, field) if estimate else math.nan))
        for suffix, field in parts
    ]


def six_decimals(value: float) -> str:
    """Six decimals; empty where it is undefined."""
    return f"{value:.6f}" if math.isfinite(value) else ""
