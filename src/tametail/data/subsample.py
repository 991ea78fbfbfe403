"""A long tail drawn from a set: class sizes that fall exponentially, whole groups, by a seed.

Shape legend: N images, C classes, G groups.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tametail.data.table import ImageTable
from tametail.errors import DataError, UsageError

Ints = NDArray[np.int64]


def subsample(table: ImageTable, ratio: float, *, seed: int = 0) -> ImageTable:
    """Draw a set whose class sizes fall from n to n / ``ratio`` by equal factors (Cui et al. 2019, CIFAR-LT).

    Classes keep their order by size, and n is the largest that the set allows. Groups are taken whole, so that a class
    may miss its size by less than its largest group. A given test part stays as it is.

    Args:
        ratio: images of the largest class per image of the smallest, at least 1.
        seed: of the order in which groups are tried.

    Raises:
        UsageError: a ratio below 1, a negative seed, or images with several labels.
        DataError: the smallest class would have no image left, or the groups are too large for such a tail.
    """
    if not (math.isfinite(ratio) and ratio >= 1):
        raise UsageError(f"expected a ratio of 1 or more, got {ratio:g}")
    if seed < 0:
        raise UsageError(f"expected a seed of 0 or more, got {seed}")
    if table.multi_label:
        raise UsageError(
            "expected one label per image: a tail cannot be drawn where an image is of several classes"
        )
    open_rows = np.flatnonzero(table.frame["split"].to_numpy() != "test")
    target = table.targets[open_rows]
    available = np.bincount(target, minlength=len(table.class_names))
    wanted = tail_sizes(available, ratio)
    names, member = np.unique(table.groups[open_rows], return_inverse=True)
    held = np.zeros((len(names), len(table.class_names)), dtype=np.int64)  # (G, C)
    np.add.at(held, (member, target), 1)
    taken = _draw(held, wanted, np.random.default_rng(np.random.SeedSequence([seed])).permutation(len(names)))
    empty = [table.class_names[c] for c in np.flatnonzero(held[taken].sum(axis=0) == 0)]
    if empty:
        raise DataError(
            f"no whole group of {', '.join(map(repr, empty))} is small enough for a ratio of {ratio:g}; "
            f"ask for a smaller ratio"
        )
    rows = np.ones(len(table), dtype=np.bool_)
    rows[open_rows] = taken[member]
    return table.take(rows)


def tail_sizes(available: Ints, ratio: float) -> Ints:
    """(C,) sizes that fall exponentially in the order of what is available, the largest that fit.

    Raises:
        DataError: the smallest would be less than one image.
    """
    order = np.argsort(-available, kind="stable")
    fall = np.ones(len(available)) / ratio ** (np.arange(len(available)) / max(len(available) - 1, 1))
    largest = float(np.min(available[order] / fall))
    if math.floor(largest / ratio + 1e-9) < 1:
        raise DataError(
            f"expected at least {ratio:g} images to draw a tail of ratio {ratio:g} from, but the classes allow "
            f"{largest:.0f} for the largest; ask for a smaller ratio"
        )
    sizes = np.empty(len(available), dtype=np.int64)
    sizes[order] = np.floor(largest * fall + 1e-9).astype(np.int64)
    return sizes


def _draw(held: Ints, wanted: Ints, order: Ints) -> NDArray[np.bool_]:
    """(G,) which groups are taken: in a random order, each that fits into what its classes still lack."""
    taken = np.zeros(len(held), dtype=np.bool_)
    lacking = wanted.copy()
    for group in order.tolist():
        if (held[group] <= lacking).all():
            taken[group] = True
            lacking -= held[group]
    return taken
