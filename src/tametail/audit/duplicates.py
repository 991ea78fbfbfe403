"""Duplicates: files of equal bytes, and images that are the same except for compression or scale.

A perceptual hash proposes pairs; the correlation of their thumbnails and of the fine detail in them decides on each.
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
from tametail.core.arrays import FloatArray, IntArray
from tametail.data.table import ImageTable

CORRELATION = 0.99  # of grey levels at 64 x 64, above which two images may be the same
# Detail is the difference from a Gaussian blur of _SMOOTH pixels. Smooth images of different patients correlate above
# 0.99, but their detail does not. Copies saved at JPEG quality 60 or at half the size have a detail correlation of 0.85.
_SMOOTH, _DETAIL, _DETAIL_IF_SMOOTH = 1.5, 0.7, 0.95
# With more copies than this per image, and in total, images count as smooth and the higher limit applies.
_MANY_PER_IMAGE, _MANY = 0.02, 10
# Differing bits of two hashes of 64, up to which a pair is compared: the most that gives at most _PROPOSED pairs per image.
_BITS, _PROPOSED = (14, 10, 6, 2), 100
BLANK = 1.0  # standard deviation in grey levels, below which there is nothing to compare
_PAIRS = 2048  # compared at a time
_EDGE = 9  # the hash is made of the 9 x 9 lowest frequencies except the mean


@dataclass(frozen=True)
class Duplicates:
    """Sets of rows of a table; the rows of a set are sorted, and the sets by their first row.

    Attributes:
        exact: sets of two or more files of equal bytes.
        near: pairs of images that are the same, but not byte for byte.
        merged: sets of exact and near duplicates together; the images of a set must not be split.
        similar: number of pairs that correlate like copies but differ in their detail, and so count as different.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, int], ...]
    merged: tuple[tuple[int, ...], ...]
    similar: int = 0


def find_duplicates(stats: ImageStats, *, block_size: int = 1024) -> Duplicates:
    """Find exact and near duplicates among the readable images.

    Of each set of equal files the first represents all in ``near``. Blank images are only compared byte by byte.

    Args:
        block_size: images whose hashes are compared at a time; it bounds the memory and changes no result.
    """
    by_digest: dict[str, list[int]] = defaultdict(list)
    for row, file in enumerate(stats.files):
        if file.digest and file.error is None:
            by_digest[file.digest].append(row)
    exact = tuple(sorted(tuple(rows) for rows in by_digest.values() if len(rows) > 1))
    std = np.array([file.std for file in stats.files])
    first = np.array(sorted(rows[0] for rows in by_digest.values()), dtype=np.int64)
    first = first[std[first] >= BLANK]
    same, similar = _near(stats.thumbnails, first, block_size)
    near = tuple(sorted((int(first[a]), int(first[b])) for a, b in same))
    return Duplicates(exact, near, connected_sets([*exact, *near]), similar)


def connected_sets(sets: Iterable[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Merge sets that share a member: the connected components."""
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


def merge_groups(table: ImageTable, duplicates: Duplicates) -> ImageTable:
    """Put duplicates in one group, so that they cannot cross a split.

    If duplicates connect two groups, all images of both form one group, with the name that is first in sorted order.
    """
    groups = table.groups
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups.tolist()):
        rows_of[group].append(row)
    frame = table.frame.copy()
    named = groups.astype(object)
    for rows in connected_sets([*duplicates.merged, *rows_of.values()]):
        named[list(rows)] = min(groups[list(rows)].tolist())
    frame["group"] = named
    return replace(table, frame=frame)


def _near(
    thumbnails: NDArray[np.uint8], rows: IntArray, block_size: int
) -> tuple[list[tuple[int, int]], int]:
    """Positions (a, b), a < b, within ``rows`` of images that are the same, and the number of pairs that are similar."""
    pairs, detail = np.empty((0, 2), dtype=np.int64), np.empty(0)
    proposals = _proposed(thumbnails, rows, block_size) if len(rows) > 1 else ()
    if found := [_confirmed(thumbnails, rows, proposed) for proposed in proposals]:
        pairs, detail = np.concatenate([p for p, _ in found]), np.concatenate([d for _, d in found])
    same = detail > _DETAIL
    if same.sum() > max(_MANY_PER_IMAGE * len(rows), _MANY):
        same = detail > _DETAIL_IF_SMOOTH
    return [(int(a), int(b)) for a, b in pairs[same]], int((~same).sum())


def _proposed(thumbnails: NDArray[np.uint8], rows: IntArray, block_size: int) -> Iterator[IntArray]:
    """Pairs (P, 2) of positions whose hashes, or one hash and the other's negative, differ in few bits."""
    blocks = [rows[at : at + block_size] for at in range(0, len(rows), block_size)]
    signs = np.concatenate([_hashes(thumbnails[block]) for block in blocks])
    # The product of two hashes of signs is the number of bits minus twice the number that differ.
    sample = np.abs(signs[:: max(len(rows) // block_size, 1)] @ signs.T)
    limits = [64 - 2 * bits for bits in _BITS]
    least = next((limit for limit in limits if (sample >= limit).mean() * len(rows) <= _PROPOSED), limits[-1])
    for start in range(0, len(rows), block_size):
        agree = np.abs(signs[start : start + block_size] @ signs[start:].T)
        near = np.argwhere(np.triu(agree >= least, 1)) + start
        for at in range(0, len(near), _PAIRS):
            yield near[at : at + _PAIRS]


def _confirmed(thumbnails: NDArray[np.uint8], rows: IntArray, pairs: IntArray) -> tuple[IntArray, FloatArray]:
    """Pairs whose thumbnails correlate above `CORRELATION`, with the correlation (of that sign) of their detail."""
    left, right = (thumbnails[rows[pairs[:, side]]] for side in (0, 1))
    whole = _correlations(left, right)
    passed = np.abs(whole) > CORRELATION
    detail = _correlations(_fine(left[passed]), _fine(right[passed])) * np.sign(whole[passed])
    return pairs[passed], detail


def _fine(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The detail of thumbnails: the difference from their blur."""
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


def _correlations(left: NDArray[np.generic], right: NDArray[np.generic]) -> FloatArray:
    """Pearson correlations (P,) of P pairs of thumbnails (P, T, T); 0 where one is blank."""
    a, b = (side.reshape(len(side), math.prod(side.shape[1:])).astype(np.float32) for side in (left, right))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.where(length > 0, length, 1), dtype=np.float64)
