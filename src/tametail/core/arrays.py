"""Type aliases of NumPy arrays, whose shapes are documented where they are used, and choices of their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
TextArray = NDArray[np.str_]

BLOCK_ROWS = 2**14  # of 100 classes: 13 MB as float64


def row_blocks(rows: int, size: int | None = None) -> Iterator[slice]:
    """Slices of at most ``size`` rows that cover all rows in order, so that temporary arrays stay small.

    Args:
        size: None for `BLOCK_ROWS`.
    """
    size = size or BLOCK_ROWS
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def few_of_each(rows: IntArray, group: TextArray, of_each: int, most: int) -> list[int]:
    """The first of these rows, at most ``of_each`` of a group and ``most`` in all.

    Args:
        rows: row numbers in the order of choice.
        group: (N,) group of every row.
    """
    chosen: list[int] = []
    seen: Counter[str] = Counter()
    for row in rows.tolist():
        if len(chosen) == most:
            break
        if seen[str(group[row])] < of_each:
            seen[str(group[row])] += 1
            chosen.append(row)
    return chosen
