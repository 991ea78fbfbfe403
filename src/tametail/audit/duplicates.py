"""Duplicates: files of equal bytes, and images that are the same except for compression, scale, mirroring, rotation or a crop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tametail.audit.copy_search import TURNS, find_copies
from tametail.audit.crop_search import find_crops
from tametail.audit.image_stats import ImageStats
from tametail.core.arrays import BoolArray, FloatArray
from tametail.data.table import ImageTable

# Least correlation of the detail of copies that were saved again or turned, and of crops. Where more pairs than the shares below pass,
# images count as smooth and the last limit applies.
_DETAIL, _DETAIL_OF_CROPS, _DETAIL_IF_SMOOTH = 0.7, 0.85, 0.95
_MANY_PER_IMAGE, _MANY = 0.02, 10  # copies per image, and in total
BLANK = 1.0  # standard deviation in grey levels, below which there is nothing to compare
CROPPED = "cropped"


@dataclass(frozen=True)
class Duplicates:
    """Sets of rows of a table; the rows of a set are sorted, and the sets by their first row.

    Attributes:
        exact: sets of two or more files of equal bytes.
        near: pairs of images that are the same, but not byte for byte.
        merged: sets of exact and near duplicates and changed copies together; the images of a set must not be split.
        similar: number of pairs that correlate like copies but differ in their detail, and so count as different.
        changed: pairs of which one is a mirrored, rotated or cropped copy of the other.
        changes: how, in words, for each changed pair.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, int], ...]
    merged: tuple[tuple[int, ...], ...]
    similar: int = 0
    changed: tuple[tuple[int, int], ...] = ()
    changes: tuple[str, ...] = ()


def find_duplicates(stats: ImageStats, *, block_size: int = 1024) -> Duplicates:
    """Find exact and near duplicates and changed copies among the readable images.

    Of each set of equal files the first represents all in ``near`` and ``changed``. Blank images are only compared byte by byte.

    Args:
        block_size: images that are compared at a time; it bounds the memory and changes no result.
    """
    by_digest: dict[str, list[int]] = defaultdict(list)
    for row, file in enumerate(stats.files):
        if file.digest and file.error is None:
            by_digest[file.digest].append(row)
    exact = tuple(sorted(tuple(rows) for rows in by_digest.values() if len(rows) > 1))
    std = np.array([file.std for file in stats.files])
    first = np.array(sorted(rows[0] for rows in by_digest.values()), dtype=np.int64)
    first = first[std[first] >= BLANK]
    copies = find_copies(stats.thumbnails, first, block_size)
    as_it_is = copies.turn == 0
    same = _alike(copies.detail, as_it_is, _DETAIL, len(first))
    turned = _alike(copies.detail, ~as_it_is, _DETAIL, len(first))
    near = [(int(first[a]), int(first[b])) for a, b in copies.pairs[same]]
    changes = {
        (int(first[a]), int(first[b])): TURNS[turn].name
        for (a, b), turn in zip(copies.pairs[turned], copies.turn[turned], strict=True)
    }
    crops = find_crops(stats.thumbnails, first, block_size)
    details = np.array([crop.detail for crop in crops])
    parts = _alike(details, np.ones(len(crops), dtype=np.bool_), _DETAIL_OF_CROPS, len(first))
    known = {*near, *changes}
    for at in np.flatnonzero(parts):
        one, other = sorted((int(first[crops[at].whole]), int(first[crops[at].part])))
        if (one, other) not in known:
            changes[one, other] = CROPPED
    changed = tuple(sorted(changes))
    return Duplicates(
        exact,
        tuple(sorted(near)),
        connected_sets([*exact, *near, *changed]),
        int((~same & ~turned).sum()),
        changed,
        tuple(changes[pair] for pair in changed),
    )


def _alike(detail: FloatArray, candidates: BoolArray, limit: float, images: int) -> BoolArray:
    """Which candidates have the same detail, by the higher limit if there are many."""
    alike = candidates & (detail > limit)
    if alike.sum() > max(_MANY_PER_IMAGE * images, _MANY):
        alike = candidates & (detail > _DETAIL_IF_SMOOTH)
    return alike


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
