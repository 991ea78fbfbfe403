"""Cross-validation folds that a table gives, used as they are.

Shape legend: N images.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tametail.core.arrays import BoolArray, IntArray
from tametail.core.errors import DataError, UsageError
from tametail.core.text import sample_of
from tametail.data.table import FOLD_COLUMN, ImageTable


def has_given_folds(table: ImageTable) -> bool:
    """Whether the table gives the folds."""
    return FOLD_COLUMN in table.frame


def given_folds(table: ImageTable, test: BoolArray, folds: int) -> IntArray:
    """(N,) fold of each image outside the test set, numbered in the order of their names; -1 in the test set.

    Args:
        test: (N,) images of the test set.
        folds: the number that is expected.

    Raises:
        UsageError: the table gives another number of folds.
        DataError: an image has no fold, images of a group are in several, or a class is in a single one.
    """
    names = np.array(table.frame[FOLD_COLUMN].tolist(), dtype=np.str_)
    found = sorted(set(names[~test].tolist()), key=_by_value)
    if "" in found:
        without = table.images[~test & (names == "")].tolist()
        raise DataError(
            f"{len(without)} of {len(table)} images have no fold and are not in the test set ({sample_of(without)}); fill "
            f"their folds in, or mark them as test in the split column"
        )
    if len(found) != folds:
        raise UsageError(
            f"the table gives {len(found)} folds ({sample_of(found, most=10)}); use --folds {len(found)}"
        )
    numbers = {name: number for number, name in enumerate(found)}
    fold = np.array(
        [-1 if tested else numbers[name] for name, tested in zip(names.tolist(), test, strict=True)]
    )
    pairs = set(zip(table.groups[~test].tolist(), fold[~test].tolist(), strict=True))
    if torn := sorted(group for group, count in Counter(group for group, _ in pairs).items() if count > 1):
        raise DataError(
            f"the given folds leak: {len(torn)} groups have images in several folds ({sample_of(torn)}); put each group in "
            f"one fold, or leave --fold-col out"
        )
    alone = [
        name
        for name, labels in zip(table.class_names, table.labels.T, strict=True)
        if len(set(fold[labels & ~test].tolist())) < 2
    ]
    if alone:
        raise DataError(
            f"expected every class in at least 2 of the given folds, found {sample_of(alone)} in one only, so that no model "
            f"would be trained on it; leave --fold-col out"
        )
    return np.asarray(fold, dtype=np.int64)


def _by_value(name: str) -> tuple[bool, int, str]:
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
