"""A long tail drawn from a set: class sizes that fall exponentially, whole groups, by a seed.

Shape legend: N images, C classes, G groups.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.core.errors import DataError, UsageError
from tametail.data.table import ImageTable


def subsample(table: ImageTable, ratio: float, *, seed: int = 0, single_images: bool = False) -> ImageTable:
    """Draw a set whose class sizes fall from n to n / ``ratio`` by equal factors (Cui et al. 2019, CIFAR-LT).

    Classes keep their order by size, and n is the largest that the set allows. Groups are taken whole and so that the
    sizes come as near as a search of single changes brings them; where groups hold several classes that may be far off.
    A given test set stays as it is.

    Args:
        ratio: images of the largest class per image of the smallest, at least 1.
        seed: of the draw.
        single_images: leave out single images of a group, so that the sizes are exact. No group is on two sides by that.

    Raises:
        UsageError: a ratio below 1, a negative seed, or images with several labels.
        DataError: a class has no image outside the test set, or too few for the ratio.
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
    absent = [table.class_names[c] for c in np.flatnonzero(available == 0)]
    if absent:
        raise DataError(
            f"expected images of every class outside the test set, found none of {', '.join(absent)}"
        )
    wanted = tail_sizes(available, ratio)
    groups = np.arange(len(open_rows)) if single_images else table.groups[open_rows]
    names, member = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), len(table.class_names)), dtype=np.int64)  # (G, C)
    np.add.at(held, (member, target), 1)
    taken = _draw(held, wanted, np.random.default_rng(np.random.SeedSequence([seed])))
    rows = np.ones(len(table), dtype=np.bool_)
    rows[open_rows] = taken[member]
    return table.take(rows)


def tail_sizes(available: IntArray, ratio: float) -> IntArray:
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


def _draw(held: IntArray, wanted: IntArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(G,) which groups are taken: in a random order each that fits, then changed as long as that comes nearer."""
    taken = np.zeros(len(held), dtype=np.bool_)
    lacking = wanted.copy()
    order = rng.permutation(len(held))
    for group in order.tolist():
        if (held[group] <= lacking).all():
            taken[group] = True
            lacking -= held[group]
    if (lacking == 0).all():
        return taken
    return _improved(taken, held, wanted, order)


def _improved(
    taken: NDArray[np.bool_], held: IntArray, wanted: IntArray, order: IntArray
) -> NDArray[np.bool_]:
    """Take one group more, one less, or one for another, whichever comes nearest, until none does."""
    taken = taken.copy()
    got = held[taken].sum(axis=0)
    distance = float(_distance(got, wanted))
    while True:
        step = np.where(taken[:, None], -held, held)[order]
        lock = _distance(got + step, wanted)
        best = int(lock.argmin())
        moves, nearest = [order[best]], float(lock[best])
        # A swap begins with the most promising few of single changes.
        for first in np.argsort(lock, kind="stable")[:32].tolist():
            pair = _distance(got + step[first] + step, wanted)
            pair[first] = np.inf
            second = int(pair.argmin())
            if pair[second] < nearest - 1e-12:
                moves, nearest = [order[first], order[second]], float(pair[second])
        if nearest >= distance - 1e-12:
            return taken
        for group in moves:
            got = got + (-held[group] if taken[group] else held[group])
            taken[group] = ~taken[group]
        distance = nearest


def _distance(got: IntArray, wanted: IntArray) -> NDArray[np.float64]:
    """Sum over classes (..., C) of squared log ratios: half as many and twice as many are as far off."""
    # A class without an image is farther off than one with half an image would be.
    logs = np.log(np.maximum(got, 0.25) / wanted)
    return np.asarray((logs**2).sum(axis=-1), dtype=np.float64)
