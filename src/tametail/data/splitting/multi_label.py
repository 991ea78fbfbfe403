"""Parts in which every label of a multi-label table has its share, of whole groups: iterative stratification.

Legend: N images, C labels, G groups, P parts, K strata (the labels, images without any label, all images).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.data.table import ImageTable


def label_strata(table: ImageTable) -> NDArray[np.bool_]:
    """(N, C) labels of any table; with a column more, for images without any label, where there are such."""
    labels = table.labels
    none = ~labels.any(axis=1, keepdims=True)
    return np.concatenate([labels, none], axis=1) if none.any() else labels


def label_divisions(
    strata: IntArray, share: NDArray[np.float64], seeds: tuple[int, ...], attempts: int
) -> Iterator[IntArray]:
    """(G,) part of each group, from each of several random streams.

    Args:
        strata: (G, K) images of each group in each stratum, all images last.
        share: (P,) fraction of all images that each part should have.
        seeds: what the streams are derived from.
        attempts: how many.
    """
    for attempt in range(attempts):
        yield divide_by_labels(strata, share, np.random.default_rng([*seeds, attempt]))


def divide_by_labels(strata: IntArray, share: NDArray[np.float64], rng: np.random.Generator) -> IntArray:
    """(G,) part of each group, the groups of the rarest label first, each to where that label lacks most.

    The label that has fewest images left to place is placed next. Of the parts that lack equally many of its images
    that one gets the group which lacks most images of all kinds; what is equal then, is drawn. Groups take the place
    that images have in the source, and of one label those with most of its images go first, as late ones fit in
    anywhere.

    Source: Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, ECML PKDD 2011, Algorithm 1.
    """
    part = np.full(len(strata), -1, dtype=np.int64)
    wanted = share[:, None] * strata.sum(axis=0)  # (P, K) images still to be placed
    order = rng.permutation(len(strata))  # the groups of one size come in drawn order
    while len(order):
        left = strata[order].sum(axis=0)
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        holding = strata[order, rarest] > 0
        holders = order[holding]
        for group in holders[np.argsort(-strata[holders, rarest], kind="stable")]:
            lacking = np.flatnonzero(wanted[:, rarest] == wanted[:, rarest].max())
            lacking = lacking[wanted[lacking, -1] == wanted[lacking, -1].max()]
            part[group] = rng.choice(lacking) if len(lacking) > 1 else lacking[0]
            wanted[part[group]] -= strata[group]
        order = order[~holding]
    return part
