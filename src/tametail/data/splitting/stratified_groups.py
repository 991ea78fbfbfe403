"""Selection of the best of several random divisions of groups into parts, with repair of missing classes.

Shape legend: N images, C classes, G groups, P parts, K strata. ``strata`` (G, K) is the number of images of each group
in each stratum: one stratum per class, then others that are only balanced, and all images last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.core.errors import DataError

_REPAIRED = 20  # candidates tried before an error is raised


def images_by_group(member: IntArray, of_strata: BoolArray) -> IntArray:
    """Make ``strata`` (G, K) of the group of each image, (N,) in 0..G-1, and its strata (N, K - 1)."""
    strata = np.zeros((member.max() + 1, of_strata.shape[1] + 1), dtype=np.int64)
    np.add.at(strata[:, :-1], member, of_strata.astype(np.int64))
    strata[:, -1] = np.bincount(member)
    return strata


def best_partition(
    candidates: Sequence[IntArray],
    strata: IntArray,
    minimum: IntArray,
    share: FloatArray,
    names: tuple[str, ...],
) -> IntArray:
    """Select the candidate, (G,) part of each group, with the fewest missing groups, and of these the best balanced.

    Args:
        strata: (G, K); the first C are those of ``names``.
        minimum: (P, C) number of groups of each class that each part must have.
        share: (P,) fraction of all images that each part should have.

    Raises:
        DataError: no candidate can be repaired, because of groups with several classes.
    """
    scores = [(_missing(part, strata, minimum).sum(), _imbalance(part, strata, share)) for part in candidates]
    for best in sorted(range(len(scores)), key=scores.__getitem__)[:_REPAIRED]:
        part = _repair(candidates[best], strata, minimum, share)
        if not _missing(part, strata, minimum).any():
            return part
    lacking = np.flatnonzero(_missing(part, strata, minimum).sum(axis=0))
    listed = ", ".join(repr(names[c]) for c in lacking)
    raise DataError(
        f"the groups of {listed} cannot be distributed over the test set and every fold, as they have images of other "
        f"classes too; use fewer folds, or check the group column"
    )


def _repair(part: IntArray, strata: IntArray, minimum: IntArray, share: FloatArray) -> IntArray:
    """Move single groups to parts that lack their class, as long as this reduces what is missing."""
    part = part.copy()
    while (missing := _missing(part, strata, minimum)).any():
        trials = []
        for to, c in np.argwhere(missing):
            for g in np.flatnonzero((strata[:, c] > 0) & (part != to)):
                trial = part.copy()
                trial[g] = to
                trials.append(
                    (_missing(trial, strata, minimum).sum(), _imbalance(trial, strata, share), g, to)
                )
        if not trials or min(trials)[0] >= missing.sum():
            break
        _, _, g, to = min(trials)
        part[g] = to
    return part


def _missing(part: IntArray, strata: IntArray, minimum: IntArray) -> IntArray:
    """(P, C) number of groups of each class that each part lacks."""
    have = np.zeros_like(minimum)
    np.add.at(have, part, (strata[:, : minimum.shape[1]] > 0).astype(np.int64))
    return np.asarray(np.maximum(minimum - have, 0), dtype=np.int64)


def _imbalance(part: IntArray, strata: IntArray, share: FloatArray) -> float:
    """Chi-square distance of the parts from their shares of each stratum."""
    counts = np.zeros((len(share), strata.shape[1]), dtype=np.int64)
    np.add.at(counts, part, strata)
    expected = share[:, None] * counts.sum(axis=0)
    return float(((counts - expected) ** 2 / expected).sum())
