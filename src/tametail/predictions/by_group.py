"""One prediction per group: the images of a study or a patient (views of a chest, both eyes) combined.

Shape legend: N images, G groups, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray
from tametail.core.errors import UsageError
from tametail.predictions.multi_label import LabelPredictions

PredictBy = Literal["image", "group", "group-max"]
IN_WORDS = {
    "image": "each image by itself",
    "group": "mean probability over the images of a group",
    "group-max": "highest probability over the images of a group",
}


def check_predict_by(value: str) -> PredictBy:
    """The value, checked.

    Raises:
        UsageError: it is none of `PredictBy`.
    """
    known: dict[str, PredictBy] = {"image": "image", "group": "group", "group-max": "group-max"}
    if value in known:
        return known[value]
    raise UsageError(f"expected one of {', '.join(known)} with --predict-by, got {value!r}")


def combined(p: FloatArray, group: IntArray, by: PredictBy) -> FloatArray:
    """Probabilities (G, C) of groups from those (N, C) of their images, with codes (N,) 0..G-1."""
    groups = int(group.max()) + 1
    if by == "group-max":
        found = np.zeros((groups, p.shape[1]))
        np.maximum.at(found, group, p)
        return found
    size = np.bincount(group, minlength=groups)[:, None]
    sums = np.stack([np.bincount(group, column, groups) for column in p.T], axis=1)
    return np.asarray(sums / size)


def by_group(table: LabelPredictions, by: PredictBy) -> LabelPredictions:
    """One row per group: it has a label if any of its images has it, and the label is unknown if it is of all of them.

    The image of a row is the name of its group. Its logits are the log-odds of the combined sigmoids of the logits.
    """
    if by == "image":
        return table
    names, first, group = np.unique(table.group, return_index=True, return_inverse=True)
    labels = _any(table.labels, group)
    logits = table.logits.astype(np.float64)
    if by == "group-max":
        z = np.full((len(names), logits.shape[1]), -np.inf)
        np.maximum.at(z, group, logits)
    else:
        z = _log_odds_of_mean(logits, group)
    p = combined(table.posterior.astype(np.float64), group, by)
    return LabelPredictions(
        names,
        names,
        labels,
        table.fold[first],
        z.astype(np.float32),
        table.class_names,
        np.clip(p, 0, 1).astype(np.float32),
        ~_any(table.known, group),
    )


def replicates_by_group(tables: Sequence[LabelPredictions], by: PredictBy) -> list[LabelPredictions]:
    """`by_group` of each table."""
    return [by_group(table, by) for table in tables]


def _any(values: NDArray[np.bool_], group: IntArray) -> NDArray[np.bool_]:
    found = np.zeros((int(group.max()) + 1, values.shape[1]), dtype=np.bool_)
    np.logical_or.at(found, group, values)
    return found


def _log_odds_of_mean(logits: FloatArray, group: IntArray) -> FloatArray:
    """Log-odds (G, C) of the mean sigmoid; exact also where all are saturated."""
    found = []
    for side in (logits, -logits):
        log_p = -np.logaddexp(0.0, -side)
        highest = np.full((int(group.max()) + 1, logits.shape[1]), -np.inf)
        np.maximum.at(highest, group, log_p)
        sums = np.zeros_like(highest)
        np.add.at(sums, group, np.exp(log_p - highest[group]))
        found.append(highest + np.log(sums))
    return np.asarray(found[0] - found[1])
