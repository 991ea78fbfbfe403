"""Cells of CSV files: pairs of a column's name and its text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from tametail.evaluation import Estimate

Cells = list[tuple[str, str]]  # not a dict, as unusual class names may give equal columns
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_text(rows: Sequence[Cells]) -> str:
    """Rows as CSV with the columns of the first row; missing cells at the end of a row are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow([guarded(column) for column, _ in rows[0]])
    writer.writerows([guarded(cell) for _, cell in row] + [""] * (len(rows[0]) - len(row)) for row in rows)
    return text.getvalue()


def guarded(cell: str) -> str:
    """Prefix an apostrophe to a cell that a spreadsheet would run as a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def estimate_cells(column: str, estimate: Estimate | None) -> Cells:
    """An estimate as ``column``, ``column_low`` and ``column_high``; empty cells for None."""
    parts = (("", "value"), ("_low", "low"), ("_high", "high"))
    return [
        (column + suffix, six_decimals(getattr(estimate, field) if estimate else math.nan))
        for suffix, field in parts
    ]


def six_decimals(value: float) -> str:
    """A number with six decimals; empty if it is undefined."""
    return f"{value:.6f}" if math.isfinite(value) else ""
