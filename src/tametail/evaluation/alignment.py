"""Align tables of predictions: the same images in the same order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tametail.predictions.single_label import Predictions


def align(replicates: Sequence[Predictions]) -> list[Predictions]:
    """Sort the tables by image and check that they are about the same images.

    Raises:
        ValueError: no table, no image, or tables that differ in images, groups, targets or classes.
    """
    if not replicates or not len(replicates[0]):
        raise ValueError("expected at least one table of predictions with at least one image, got none")
    tables = [_sorted(table) for table in replicates]
    first = tables[0]
    for index, table in enumerate(tables[1:], start=1):
        if table.class_names != first.class_names:
            raise ValueError(
                f"expected classes {first.class_names}, got {table.class_names} in table {index}"
            )
        for name in ("image", "group", "target"):
            if not np.array_equal(getattr(table, name), getattr(first, name)):
                raise ValueError(f"expected the same {name} column in every table, table {index} differs")
    return tables


def group_codes(table: Predictions) -> NDArray[np.int64]:
    """Codes (N,) 0..G-1 of the groups."""
    return np.asarray(np.unique(table.group, return_inverse=True)[1], dtype=np.int64)


def _sorted(table: Predictions) -> Predictions:
    # Sorting text takes longer than most metrics; tables of a study are sorted already.
    in_order = bool((table.image[:-1] < table.image[1:]).all())
    return table if in_order else table.sorted_by_image()
