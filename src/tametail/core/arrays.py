"""Type aliases of NumPy arrays, whose shapes are documented where they are used, and blocks of their rows."""

from __future__ import annotations

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
