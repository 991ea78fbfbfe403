"""Iterative stratification: parts of whole groups that have the same share of every label of a multi-label table.

Legend: N images, C labels, G groups, P parts, K strata (the labels, images without any label, all images).
"""

from __future__ import annotations

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.data.table import ImageTable


def label_strata(table: ImageTable) -> BoolArray:
    """(N, C) labels of a table, with one more column for images without a label, if there are any."""
    labels = table.labels
    none = ~labels.any(axis=1, keepdims=True)
    return np.concatenate([labels, none], axis=1) if none.any() else labels


def stratify_labels(strata: IntArray, share: FloatArray, rng: np.random.Generator) -> IntArray:
    """Assign groups to parts, those of the rarest label first, each to the part that lacks most of that label.

    The label with the fewest unassigned images is next. Among parts that lack equally many of its images, the one that
    lacks most images in total gets the group; further ties are drawn. Groups take the role of the single images in the
    paper, and of one label the groups with most of its images are first.

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
