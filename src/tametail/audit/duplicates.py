"""Duplicates: files of equal bytes, and pictures that are the same but for compression or scale.

A hash proposes pairs; the correlation of their thumbnails, and that of the fine detail in them, confirms or refuses each.
Shape legend: N images, T thumbnail side.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tametail.audit.image_stats import ImageStats
from tametail.data.table import ImageTable

CORRELATION = 0.99  # of grey levels at 64 x 64, above which two pictures may be the same
# Of what is left when a blur of that many pixels is taken off: smooth pictures of different patients correlate above 0.99
# as a whole, but not in this. Copies saved at JPEG quality 60 or at half the size keep 0.85 and more.
_SMOOTH, _DETAIL, _DETAIL_IF_SMOOTH = 1.5, 0.7, 0.95
_MANY, _FEW = (
    0.02,
    10,
)  # pairs per picture, or pairs, that can be taken for copies by the first of the two limits
_BITS_APART = (14, 10, 6, 2)  # of the 64 of a hash, up to which a pair is looked at: the most that leaves ...
_PROPOSED = 100  # ... so many pairs per picture
_BLANK = 1.0  # standard deviation in grey levels, below which there is nothing to compare
_BLOCK, _TOGETHER = 1024, 2048
_EDGE = 9  # the hash is made of the 9 x 9 lowest frequencies but their mean

Rows = tuple[int, ...]


@dataclass(frozen=True)
class Duplicates:
    """Sets of rows of a table, each set sorted, the sets by their first row.

    Attributes:
        exact: sets of two or more files of equal bytes.
        near: pairs of pictures that are the same, but not byte for byte.
        joined: both together, as sets: what must not be split.
        alike: pairs that correlate as copies do but differ in their detail, and so count as different.
    """

    exact: tuple[Rows, ...]
    near: tuple[tuple[int, int], ...]
    joined: tuple[Rows, ...]
    alike: int = 0


def find_duplicates(facts: ImageStats) -> Duplicates:
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
    same, alike = _near(facts.thumbnails, first)
    near = tuple(sorted((int(first[a]), int(first[b])) for a, b in same))
    return Duplicates(exact, near, joined_sets([*exact, *near]), alike)


def joined_sets(sets: Iterable[Sequence[int]]) -> tuple[Rows, ...]:
    """Sets that share a member, made one."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        parent.setdefault(row, row)
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for fold_models in sets:
        for member in fold_models[1:]:
            left, right = sorted((root(fold_models[0]), root(member)))
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


def _near(thumbnails: NDArray[np.uint8], rows: NDArray[np.int64]) -> tuple[list[tuple[int, int]], int]:
    """Positions (a, b), a < b, within ``rows`` of pictures that are the same, and how many pairs are only alike."""
    pairs, detail = np.empty((0, 2), dtype=np.int64), np.empty(0)
    if len(rows) > 1:
        found = [_confirmed(thumbnails, rows, proposed) for proposed in _proposed(thumbnails, rows)]
        if found:
            pairs, detail = np.concatenate([p for p, _ in found]), np.concatenate([d for _, d in found])
    same = detail > _DETAIL
    if same.sum() > max(_MANY * len(rows), _FEW):
        # Where so many seem the same the pictures are smooth, and only what is nearly identical is told apart from that.
        same = detail > _DETAIL_IF_SMOOTH
    return [(int(a), int(b)) for a, b in pairs[same]], int((~same).sum())


def _proposed(thumbnails: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Pairs (P, 2) of positions whose hashes, or one hash and the other's negative, differ in few bits."""
    blocks = [rows[at : at + _BLOCK] for at in range(0, len(rows), _BLOCK)]
    signs = np.concatenate([_hashes(thumbnails[block]) for block in blocks])
    # The product of two hashes of signs is the number of bits less twice those that differ.
    sample = np.abs(signs[:: max(len(rows) // _BLOCK, 1)] @ signs.T)
    least = next(
        (64 - 2 * bits for bits in _BITS_APART if (sample >= 64 - 2 * bits).mean() * len(rows) <= _PROPOSED),
        64 - 2 * _BITS_APART[-1],
    )
    for start in range(0, len(rows), _BLOCK):
        agree = np.abs(signs[start : start + _BLOCK] @ signs[start:].T)
        near = np.argwhere(np.triu(agree >= least, 1)) + start
        for at in range(0, len(near), _TOGETHER):
            yield near[at : at + _TOGETHER]


def _confirmed(
    thumbnails: NDArray[np.uint8], rows: NDArray[np.int64], pairs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs whose thumbnails correlate above `CORRELATION`, with the correlation (of that sign) of their detail."""
    left, right = (thumbnails[rows[pairs[:, side]]] for side in (0, 1))
    whole = _correlations(left, right)
    kept = np.abs(whole) > CORRELATION
    detail = _correlations(_fine(left[kept]), _fine(right[kept])) * np.sign(whole[kept])
    return pairs[kept], detail


def _fine(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is left of thumbnails when all that is smooth is taken off."""
    import cv2

    fine = np.empty(thumbnails.shape, dtype=np.float32)
    for row, thumbnail in enumerate(thumbnails.astype(np.float32)):
        fine[row] = thumbnail - cv2.GaussianBlur(thumbnail, (0, 0), _SMOOTH)
    return fine


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


def _correlations(left: NDArray[np.generic], right: NDArray[np.generic]) -> NDArray[np.float64]:
    """Pearson correlations (P,) of pictures (P, T, T) with pictures; 0 where one is blank."""
    a, b = (side.reshape(len(side), math.prod(side.shape[1:])).astype(np.float32) for side in (left, right))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.where(length > 0, length, 1), dtype=np.float64)
