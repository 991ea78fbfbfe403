"""Division of groups into parts: iterative stratification by labels, and selection of the best of several divisions.

Shape legend: N images, C classes, G groups, P parts, K strata. ``strata`` (G, K) is the number of images of each group
in each stratum: one stratum per class, then images without a label, and all images last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.core.errors import DataError
from tametail.data.table import ImageTable

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
                missed = _missing(trial, strata, minimum).sum()
                trials.append((missed, _imbalance(trial, strata, share), g, to))
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


def label_strata(table: ImageTable) -> BoolArray:
    """(N, C) labels of a table, with one more column for images without a label, if there are any."""
    labels = table.labels
    none = ~labels.any(axis=1, keepdims=True)
    return np.concatenate([labels, none], axis=1) if none.any() else labels


def stratify_labels(strata: IntArray, share: FloatArray, rng: np.random.Generator) -> IntArray:
    """Assign groups to parts, those of the rarest label first, each to the part that lacks most of that label.

    Among parts that lack equally many of its images, the one that lacks most images in total gets the group; further ties
    are drawn. Groups take the role of the single images in the paper; those with most images of the label are first.

    Args:
        strata: (G, K) images of each group in each stratum, all images last.
        share: (P,) fraction of all images that each part should have.

    Returns:
        (G,) part of each group.

    Reference: Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, ECML PKDD 2011, Algorithm 1.
    """
    part = np.full(len(strata), -1, dtype=np.int64)
    missing = share[:, None] * strata.sum(axis=0)  # (P, K) images that each part still lacks
    order = rng.permutation(len(strata))  # random order of groups of one size
    while len(order):
        left = strata[order].sum(axis=0)
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        holding = strata[order, rarest] > 0
        holders = order[holding]
        for group in holders[np.argsort(-strata[holders, rarest], kind="stable")]:
            lacking = np.flatnonzero(missing[:, rarest] == missing[:, rarest].max())
            lacking = lacking[missing[lacking, -1] == missing[lacking, -1].max()]
            part[group] = rng.choice(lacking) if len(lacking) > 1 else lacking[0]
            missing[part[group]] -= strata[group]
        order = order[~holding]
    return part
