"""Subsampling to a long-tailed distribution: class sizes that decrease exponentially, with whole groups.

Shape legend: N images, C classes, G groups.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Unpack

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.core.errors import DataError, UsageError
from tametail.core.option import pick, takes
from tametail.core.options import DrawOptions, RatioOptions, TableOptions
from tametail.data.table import ImageTable


@takes(RatioOptions, DrawOptions)
def subsample(data: str | Path | ImageTable, ratio: float, **options: Unpack[DrawOptions]) -> ImageTable:
    """Draw a long-tailed subset: class sizes decrease from n to n / ``ratio`` by equal factors (Cui et al. 2019).

    Classes keep their order by size, and n is the largest possible number. Groups are kept whole, so that the sizes are
    approximate, found by local search; with several classes in one group they may be far from exact. A given test set
    is not changed.

    Args:
        data: what `tametail.read_images` takes, or a table.
        ratio: images of the largest class per image of the smallest, at least 1.
        options: see below. With ``single_images`` the sizes are exact; no group is divided between splits by that.

    Returns:
        The table of the images drawn.

    Raises:
        UsageError: a ratio below 1, a negative seed, or images with several labels.
        DataError: a class has no image outside the test set, or too few for the ratio.

    Example:
        >>> tt.subsample(tt.read_images("skin/"), ratio=100, seed=0).counts()
    """
    if not (math.isfinite(ratio) and ratio >= 1):
        raise UsageError(f"expected a ratio of 1 or more, got {ratio:g}")
    if isinstance(data, ImageTable):
        table = data
    else:
        from tametail.data.readers.read_images import read_images

        table = read_images(data, **pick(TableOptions, options))
    if table.multi_label:
        raise UsageError("expected one label per image: a multi-label table cannot be subsampled")
    drawn_from = np.flatnonzero(table.frame["split"].to_numpy() != "test")
    target = table.targets[drawn_from]
    available = np.bincount(target, minlength=len(table.class_names))
    absent = [table.class_names[c] for c in np.flatnonzero(available == 0)]
    if absent:
        raise DataError(
            f"expected images of every class outside the test set, found none of {', '.join(absent)}"
        )
    wanted = tail_sizes(available, ratio)
    groups = np.arange(len(drawn_from)) if options["single_images"] else table.groups[drawn_from]
    names, member = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), len(table.class_names)), dtype=np.int64)  # (G, C)
    np.add.at(held, (member, target), 1)
    taken = _draw(held, wanted, np.random.default_rng(np.random.SeedSequence([options["seed"]])))
    rows = np.ones(len(table), dtype=np.bool_)
    rows[drawn_from] = taken[member]
    return table.take(rows)


def tail_sizes(available: IntArray, ratio: float) -> IntArray:
    """(C,) class sizes that decrease exponentially in the order of the available images, the largest possible.

    Raises:
        DataError: the smallest class would have less than one image.
    """
    order = np.argsort(-available, kind="stable")
    decrease = np.ones(len(available)) / ratio ** (np.arange(len(available)) / max(len(available) - 1, 1))
    largest = float(np.min(available[order] / decrease))
    if math.floor(largest / ratio + 1e-9) < 1:
        raise DataError(
            f"expected at least {ratio:g} images to draw a tail of ratio {ratio:g} from, but the classes allow "
            f"{largest:.0f} for the largest; ask for a smaller ratio"
        )
    sizes = np.empty(len(available), dtype=np.int64)
    sizes[order] = np.floor(largest * decrease + 1e-9).astype(np.int64)
    return sizes


def _draw(held: IntArray, wanted: IntArray, rng: np.random.Generator) -> BoolArray:
    """(G,) mask of the groups drawn: in random order each that fits, then improved by local search."""
    taken = np.zeros(len(held), dtype=np.bool_)
    lacking = wanted.copy()
    order = rng.permutation(len(held))
    for group in order.tolist():
        if (held[group] <= lacking).all():
            taken[group] = True
            lacking -= held[group]
    return _improved(taken, held, wanted, order) if lacking.any() else taken


def _improved(taken: BoolArray, held: IntArray, wanted: IntArray, order: IntArray) -> BoolArray:
    """Local search: add, remove or swap one group, whichever is best, until no change improves the sizes."""
    taken = taken.copy()
    got = held[taken].sum(axis=0)
    distance = float(_distance(got, wanted))
    while True:
        step = np.where(taken[:, None], -held, held)[order]
        single = _distance(got + step, wanted)
        best = int(single.argmin())
        moves, nearest = [order[best]], float(single[best])
        # Swaps start with the 32 best single changes.
        for first in np.argsort(single, kind="stable")[:32].tolist():
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


def _distance(got: IntArray, wanted: IntArray) -> FloatArray:
    """Sum over classes (..., C) of squared log ratios: half and twice the size are at the same distance."""
    # An empty class counts as a quarter of an image.
    logs = np.log(np.maximum(got, 0.25) / wanted)
    return np.asarray((logs**2).sum(axis=-1), dtype=np.float64)
