"""All pairs of points within a distance, exactly and with bounded memory: cells of near points, compared by products of matrices.

Two cells whose bounding boxes are farther apart than the distance are never compared. The more points, the smaller the cells: the
share of pairs that is compared falls. Products of matrices make it several times faster than walking a k-d tree point by point.
Shape legend: N points, D coordinates, C cells, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray

Floats = NDArray[np.float32]

_CELL = 256  # most points of a cell
_COMPARED = 16_384  # points that a cell is compared with at a time
_SAMPLED = 256  # points whose distances are counted


@dataclass(frozen=True, eq=False)
class Cells:
    """N points in C cells.

    Attributes:
        points: (N, D) by cell.
        row: (N,) row of each point in the array given.
        start: (C + 1,) first point of each cell.
        low, high: (C, D) corners of the bounding boxes.
    """

    points: Floats
    row: IntArray
    start: IntArray
    low: Floats
    high: Floats

    @classmethod
    def of(cls, points: Floats) -> Cells:
        """Halve the points along their widest side until a cell has few."""
        waiting, done = [np.arange(len(points))], []
        while waiting:
            rows = waiting.pop()
            if len(rows) <= _CELL:
                done.append(rows)
                continue
            own = points[rows]
            widest = own[:, int(np.argmax(own.max(axis=0) - own.min(axis=0)))]
            order = np.argpartition(widest, len(rows) // 2)
            waiting += [rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]]
        row = np.concatenate(done)
        start = np.concatenate([[0], np.cumsum([len(rows) for rows in done])])
        low = np.stack([points[rows].min(axis=0) for rows in done])
        high = np.stack([points[rows].max(axis=0) for rows in done])
        return cls(points[row], row, start, low, high)

    def near(self, radius: float, most: int) -> Iterator[IntArray]:
        """Pairs (P, 2) of rows within the radius, each once, cell by cell.

        Args:
            most: pairs per point of a cell, on average; of more the nearest are taken.
        """
        for cell in range(len(self.start) - 1):
            first, last = int(self.start[cell]), int(self.start[cell + 1])
            gap = np.maximum(np.maximum(self.low[cell] - self.high, self.low - self.high[cell]), 0)
            close = np.square(gap).sum(axis=1) <= radius**2
            close[:cell] = False  # these pairs were found there
            others = np.flatnonzero(np.repeat(close, np.diff(self.start)))
            left, room = _for_product(self.points[first:last]), most * (last - first)
            pairs, squares = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32)
            for begin in range(0, len(others), _COMPARED):
                some = others[begin : begin + _COMPARED]
                square = left @ _for_product(self.points[some], right=True).T
                one, other = np.divmod(np.flatnonzero(square <= radius**2), len(some))
                found = np.stack([first + one, some[other]], axis=1)
                once = found[:, 0] < found[:, 1]
                pairs = np.concatenate([pairs, found[once]])
                squares = np.concatenate([squares, square[one, other][once]])
                if len(pairs) > room:
                    nearest = np.argpartition(squares, room)[:room]
                    pairs, squares = pairs[nearest], squares[nearest]
            yield self.row[pairs]

    def radius_of(self, neighbours: int, at_most: float) -> float:
        """The distance within which a point has on average so many others, or ``at_most``; from a sample."""
        sample = self.points[:: max(len(self.points) // _SAMPLED, 1)]
        within = []
        for begin in range(0, len(self.points), _COMPARED):
            square = _for_product(sample) @ _for_product(self.points[begin : begin + _COMPARED], right=True).T
            within.append(square[square <= at_most**2])
        squares, room = np.concatenate(within), (neighbours + 1) * len(sample)
        if len(squares) <= room:
            return at_most
        return float(np.sqrt(max(np.partition(squares, room)[room], 0)))


def _for_product(points: Floats, *, right: bool = False) -> Floats:
    """(N, D + 2) such that the product of a left and a right one is the squared distance."""
    square = np.square(points).sum(axis=1, keepdims=True)
    one = np.ones_like(square)
    parts = [points, one, square] if right else [-2 * points, square, one]
    return np.concatenate(parts, axis=1)
