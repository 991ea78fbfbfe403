"""Duplicates: files of equal bytes, and images that are the same except for compression, scale, mirroring, rotation or a crop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tametail.audit.copy_search import TURNS, find_copies
from tametail.audit.crop_search import find_crops
from tametail.audit.image_stats import ImageStats
from tametail.core.arrays import BoolArray, FloatArray, IntArray
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


@dataclass(frozen=True)
class _Pairs:
    """Pairs of different digests: see `Duplicates`."""

    near: Sequence[tuple[str, str]]
    changed: Sequence[tuple[str, str, str]]
    similar: int


Recall = Callable[[Sequence[str], Callable[[], Any]], Any]


def find_duplicates(stats: ImageStats, *, block_size: int = 1024, recall: Recall | None = None) -> Duplicates:
    """Find exact and near duplicates and changed copies among the readable images.

    Of each set of equal files the first represents all in ``near`` and ``changed``. Blank images are only compared byte by byte.

    Args:
        block_size: images that are compared at a time; it bounds the memory and changes no result.
        recall: see `recall_copies`; it must only be given for statistics that follow from the content of the files.
    """
    by_digest: dict[str, list[int]] = defaultdict(list)
    for row, file in enumerate(stats.files):
        if file.digest and file.error is None:
            by_digest[file.digest].append(row)
    exact = tuple(sorted(tuple(rows) for rows in by_digest.values() if len(rows) > 1))
    # In the order of their digests, so that the order of the table is of no consequence.
    compared = sorted(digest for digest, rows in by_digest.items() if stats.files[rows[0]].std >= BLANK)
    rows = np.array([by_digest[digest][0] for digest in compared], dtype=np.int64)

    def search() -> dict[str, Any]:
        return asdict(_pairs(stats, compared, rows, block_size))

    found = _Pairs(**(search() if recall is None else recall(compared, search)))
    first = {digest: by_digest[digest][0] for digest in compared}

    def as_rows(one: str, other: str) -> tuple[int, int]:
        left, right = sorted((first[one], first[other]))
        return left, right

    near = tuple(sorted(as_rows(one, other) for one, other in found.near))
    changes = {as_rows(one, other): how for one, other, how in found.changed}
    changed = tuple(sorted(changes))
    merged = connected_sets([*exact, *near, *changed])
    return Duplicates(exact, near, merged, found.similar, changed, tuple(changes[pair] for pair in changed))


def _pairs(stats: ImageStats, digests: Sequence[str], rows: IntArray, block_size: int) -> _Pairs:
    """Compare the images of some rows, which have different digests."""
    copies = find_copies(stats.thumbnails, rows, block_size)
    as_it_is = copies.turn == 0
    same = _alike(copies.detail, as_it_is, _DETAIL, len(rows))
    turned = _alike(copies.detail, ~as_it_is, _DETAIL, len(rows))
    near = [(digests[a], digests[b]) for a, b in copies.pairs[same]]
    changed = [
        (digests[a], digests[b], TURNS[turn].name)
        for (a, b), turn in zip(copies.pairs[turned], copies.turn[turned], strict=True)
    ]
    known = {(int(a), int(b)) for a, b in copies.pairs[same | turned]}
    crops = find_crops(stats.thumbnails, rows, block_size)
    details = np.array([crop.detail for crop in crops])
    alike = _alike(details, np.ones(len(crops), dtype=np.bool_), _DETAIL_OF_CROPS, len(rows))
    for crop in (crops[at] for at in np.flatnonzero(alike)):
        if (pair := (min(crop.whole, crop.part), max(crop.whole, crop.part))) not in known:
            known.add(pair)
            changed.append((digests[crop.whole], digests[crop.part], CROPPED))
    return _Pairs(near, changed, int((~same & ~turned).sum()))


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
