"""Duplicates: files of equal bytes, and pictures that are the same but for compression or scale.

A hash proposes pairs, and the correlation of their thumbnails confirms or refuses each.
Shape legend: N images, T thumbnail side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tametail.audit.facts import Facts
from tametail.data.table import ImageTable

CORRELATION = 0.99  # of grey levels at 64 x 64, above which two pictures are the same
_BITS_APART = 10  # of the 64 of a hash, up to which a pair is looked at
_BLANK = 1.0  # standard deviation in grey levels, below which there is nothing to compare
_BLOCK = 1024
_EDGE = 9  # the hash is made of the 9 x 9 lowest frequencies but their mean

Rows = tuple[int, ...]


@dataclass(frozen=True)
class Duplicates:
    """Sets of rows of a table, each set sorted, the sets by their first row.

    Attributes:
        exact: sets of two or more files of equal bytes.
        near: pairs of pictures that are the same, but not byte for byte.
        joined: both together, as sets: what must not be split.
    """

    exact: tuple[Rows, ...]
    near: tuple[tuple[int, int], ...]
    joined: tuple[Rows, ...]


def find_duplicates(facts: Facts) -> Duplicates:
    """Exact and near duplicates among the readable images.

    Of a set of equal files one stands for all, so that ``near`` has a pair of sets once. Blank pictures, which are
    all alike, are only compared byte by byte.
    """
    by_digest: dict[str, list[int]] = defaultdict(list)
    for row, look in enumerate(facts.looks):
        if look.digest and look.error is None:
            by_digest[look.digest].append(row)
    exact = tuple(sorted(tuple(rows) for rows in by_digest.values() if len(rows) > 1))
    spread = np.array([look.spread for look in facts.looks])
    first = np.array(sorted(rows[0] for rows in by_digest.values()), dtype=np.int64)
    first = first[spread[first] >= _BLANK]
    near = tuple(sorted((int(first[a]), int(first[b])) for a, b in _near(facts.thumbnails, first)))
    return Duplicates(exact, near, joined_sets([*exact, *near]))


def joined_sets(sets: Iterable[Sequence[int]]) -> tuple[Rows, ...]:
    """Sets that share a member, made one."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        parent.setdefault(row, row)
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for members in sets:
        for member in members[1:]:
            left, right = sorted((root(members[0]), root(member)))
            parent[right] = left
    found: dict[int, list[int]] = defaultdict(list)
    for row in sorted(parent):
        found[root(row)].append(row)
    return tuple(sorted(tuple(rows) for rows in found.values() if len(rows) > 1))


def group_duplicates(table: ImageTable, duplicates: Duplicates) -> ImageTable:
    """The table with duplicates in one group, so that they cannot cross a split.

    A group keeps everything that it held: where duplicates join two groups, all images of both are one, under the name
    that comes first in sorted order.
    """
    groups = table.groups
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups.tolist()):
        rows_of[group].append(row)
    frame = table.frame.copy()
    named = groups.astype(object)
    for rows in joined_sets([*duplicates.joined, *rows_of.values()]):
        named[list(rows)] = min(groups[list(rows)].tolist())
    frame["group"] = named
    return replace(table, frame=frame)


def _near(thumbnails: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Positions (a, b), a < b, within ``rows`` of pictures that are the same."""
    if len(rows) < 2:
        return
    signs = np.concatenate(
        [_hashes(thumbnails[rows[at : at + _BLOCK]]) for at in range(0, len(rows), _BLOCK)]
    )
    bits = signs.shape[1]
    for start in range(0, len(rows), _BLOCK):
        # The product of two hashes of signs is the number of bits less twice those that differ.
        agree = signs[start : start + _BLOCK] @ signs[start:].T
        for a, b in np.argwhere(agree >= bits - 2 * _BITS_APART).tolist():
            if b > a:
                left, right = start + a, start + b
                if correlation(thumbnails[rows[left]], thumbnails[rows[right]]) > CORRELATION:
                    yield left, right


def _hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, T, T) → (N, 64) of ±1: which of the lowest frequencies, row by row, are above their median."""
    import cv2

    half = thumbnails.shape[1] // 2
    signs = np.empty((len(thumbnails), 64), dtype=np.float32)
    for row, thumbnail in enumerate(thumbnails):
        small = cv2.resize(thumbnail, (half, half), interpolation=cv2.INTER_AREA).astype(np.float32)
        low = cv2.dct(small)[:_EDGE, :_EDGE].reshape(-1)[1:65]
        signs[row] = np.where(low > np.median(low), 1, -1)
    return signs


def correlation(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """Pearson correlation of two thumbnails; 0 where one is blank."""
    a, b = (side.astype(np.float32).reshape(-1) for side in (left, right))
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length else 0.0
