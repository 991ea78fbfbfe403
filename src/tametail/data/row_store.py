"""Rows of one shape and type that need not fit in memory: what training, prediction and statistics of images read.

Shape legend: N rows, n rows that are taken.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray

__all__ = ["ArrayRows", "RowStore", "as_rows", "row_blocks"]

BLOCK_BYTES = 2**28
"""Most bytes of float32 features that are computed on at once."""


class RowStore(ABC):
    """N rows, of which some are read at a time.

    Attributes:
        shape: (N, ...), as of an array.
        dtype: type of the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def take(self, rows: IntArray) -> NDArray[Any]:
        """Read rows (n,) in the order given, which may repeat: a new array (n, ...) in memory.

        Raises:
            IndexError: a row is not in 0..N-1.
        """

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> NDArray[Any]:
        found: NDArray[Any] = self.take(np.array([row]))[0]
        return found

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows in memory."""
        return np.asarray(self.take(np.arange(len(self))), dtype)


@final
class ArrayRows(RowStore):
    """The rows of one or several arrays, in memory or memory-mapped, one after the other.

    A memory-mapped array is pickled as the name of its file, so that other processes share its pages.

    Args:
        arrays: of equal type and shape but for the number of rows.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        if not arrays or len({(array.dtype, array.shape[1:]) for array in arrays}) > 1:
            found = [f"{array.dtype} {array.shape}" for array in arrays]
            raise ValueError(f"expected arrays with rows of one type and shape, got {found}")
        self._arrays = tuple(arrays)
        self._ends = np.cumsum([len(array) for array in arrays])
        self.shape = (int(self._ends[-1]), *arrays[0].shape[1:])
        self.dtype = arrays[0].dtype

    def take(self, rows: IntArray) -> NDArray[Any]:
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"expected rows in 0..{len(self) - 1}, got {rows.min()} to {rows.max()}")
        if len(self._arrays) == 1:
            return np.asarray(self._arrays[0][rows])
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        of_row = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(of_row):
            own = of_row == number
            array = self._arrays[number]
            taken[own] = array[rows[own] - (self._ends[number] - len(array))]
        return taken

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (row for array in self._arrays for row in array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows; those of one array without a copy."""
        return np.asarray(self._arrays[0] if len(self._arrays) == 1 else np.concatenate(self._arrays), dtype)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": [_by_name(array) for array in self._arrays]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = [np.memmap(*each) if isinstance(each, tuple) else each for each in state["_arrays"]]
        self.__dict__.update(state | {"_arrays": tuple(arrays)})


def _by_name(array: NDArray[Any]) -> NDArray[Any] | tuple[Any, ...]:
    """The arguments of `np.memmap` for a whole memory-mapped file; other arrays as they are."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename:
        return str(array.filename), array.dtype, "r", array.offset, array.shape
    return array


def as_rows(rows: RowStore | NDArray[Any]) -> RowStore:
    """The rows of an array; a store as it is."""
    return rows if isinstance(rows, RowStore) else ArrayRows([rows])


def row_blocks(rows: int, columns: int) -> list[slice]:
    """Consecutive rows of float32 features (rows, columns) of at most `BLOCK_BYTES` each; at least one, which may be empty."""
    size = max(BLOCK_BYTES // (4 * columns), 1)
    return [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]
