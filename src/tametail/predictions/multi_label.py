"""Multi-label predictions: images with any number of labels, each predicted separately.

Shape legend: N images, C labels, R tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.predictions.parquet import (
    LOGIT,
    POSTERIOR,
    Column,
    columns_by_class,
    read_integers,
    read_matrix,
    read_texts,
    reading_predictions,
    write_parquet,
)
from tametail.predictions.single_label import PredictionRows, Predictions, check_rows

_LABEL, _UNKNOWN, _KIND = "label_", "unknown_", "multi_label"


@dataclass(frozen=True)
class LabelPredictions(PredictionRows):
    """Predictions of one model for N images and C labels, with the true labels.

    Attributes:
        image: (N,) image ids, unique within one table.
        group: (N,) group ids (patient, lesion), which are never split.
        labels: (N, C) bool, which labels each image has; False where unknown.
        fold: (N,) fold of the model; -1 for an ensemble.
        logits: (N, C) float32; ranking metrics use them.
        class_names: C names, in the order of the logits.
        posterior: (N, C) float32, the probability of each label by the loss's own link; rows need not sum to one.
        unknown: (N, C) bool, labels that are not known, which metrics leave out; by default none.

    Raises:
        ValueError: lengths differ, an image or a name is duplicated, labels are not bool, an unknown label is True, a logit is not finite, or a
            probability is not in [0, 1].
    """

    image: NDArray[np.str_]
    group: NDArray[np.str_]
    labels: NDArray[np.bool_]
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]
    class_names: tuple[str, ...]
    posterior: NDArray[np.float32]
    unknown: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.unknown is None:
            object.__setattr__(self, "unknown", np.zeros(self.labels.shape, dtype=np.bool_))
        check_rows(self, ("group", "fold"), ("logits", "posterior", "labels", "unknown"))
        if self.labels.dtype != np.bool_:
            raise ValueError(f"expected labels of dtype bool, got {self.labels.dtype}")
        if (self.labels & ~self.known).any():
            raise ValueError("expected labels to be False where they are unknown, got some that are True")

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N, C) labels that are known."""
        assert self.unknown is not None
        return ~self.unknown

    def of_label(self, index: int) -> Predictions:
        """The images of which one label is known, as those without it (class 0) and with it (class 1)."""
        rows, name = self.known[:, index], self.class_names[index]
        p, logits = (values[rows, index].astype(np.float64) for values in (self.posterior, self.logits))
        return Predictions(
            self.image[rows],
            self.group[rows],
            self.labels[rows, index].astype(np.int64),
            self.fold[rows],
            np.stack([np.zeros(len(logits)), logits], axis=1).astype(np.float32),
            (f"without {name}", name),
            "softmax",
            np.stack([1 - p, p], axis=1).astype(np.float32),
        )

    def decided(self, thresholds: ArrayLike) -> NDArray[np.bool_]:
        """Predicted labels (N, C): those whose probability reaches the threshold, (C,) or (N, C)."""
        return np.asarray(self.posterior.astype(np.float64) >= np.asarray(thresholds, dtype=np.float64))


def concatenate_labels(tables: Sequence[LabelPredictions]) -> LabelPredictions:
    """Join tables of the same labels, e.g. the folds of one seed, into one sorted by image.

    Raises:
        ValueError: no table, tables of different labels, or an image in two of them.
    """
    return _first(tables).joined(tables[1:])


def ensemble_labels(tables: Sequence[LabelPredictions]) -> LabelPredictions:
    """Average several models on the same images.

    A label's probability is the mean of the models'; its logit is the log-odds of the mean of sigmoid(logit), which
    still ranks images with saturated probabilities. The fold is -1.

    Raises:
        ValueError: no table, or tables that differ in images, labels or classes.
    """
    ordered = check_same_images([table.sorted_by_image() for table in tables])
    first = ordered[0]
    z = np.stack([table.logits.astype(np.float64) for table in ordered])  # (R, N, C)
    positive, negative = (np.logaddexp.reduce(-np.logaddexp(0.0, side), axis=0) for side in (-z, z))
    return LabelPredictions(
        first.image,
        first.group,
        first.labels,
        np.full(len(first), -1, dtype=np.int64),
        (positive - negative).astype(np.float32),
        first.class_names,
        np.stack([table.posterior for table in ordered]).mean(axis=0, dtype=np.float64).astype(np.float32),
        first.unknown,
    )


def check_same_images(tables: Sequence[LabelPredictions]) -> list[LabelPredictions]:
    """Check that tables are about the same images in the same order.

    Raises:
        ValueError: no table, or tables that differ in images, groups, labels or classes.
    """
    first = _first(tables)
    for index, table in enumerate(tables):
        for name in ("image", "group", "labels", "unknown"):
            if not np.array_equal(getattr(table, name), getattr(first, name)):
                raise ValueError(f"expected the same {name} in every table, table {index} differs")
    return list(tables)


def _first(tables: Sequence[LabelPredictions]) -> LabelPredictions:
    if not tables:
        raise ValueError("expected at least one table of predictions, got none")
    for table in tables[1:]:
        if table.class_names != tables[0].class_names:
            raise ValueError(
                f"expected tables of the labels {tables[0].class_names}, got {table.class_names}"
            )
    return tables[0]


def write_label_predictions(predictions: LabelPredictions, path: Path, **noted: int) -> None:
    """Write one table as parquet: image, group, fold, and per label ``label_<name>``, ``logit_<name>``, ``p_<name>``.

    If any label is unknown, also ``unknown_<name>``. Its metadata say ``"kind": "multi_label"``, and what is ``noted``.
    """
    names = predictions.class_names
    columns: dict[str, Column] = {
        "image": predictions.image.tolist(),
        "group": predictions.group.tolist(),
        "fold": predictions.fold,
    }
    matrices = {_LABEL: predictions.labels, LOGIT: predictions.logits, POSTERIOR: predictions.posterior}
    if not predictions.known.all():
        matrices[_UNKNOWN] = ~predictions.known
    columns |= columns_by_class(names, matrices)
    write_parquet(columns, {"kind": _KIND, "class_names": names, **noted}, path)


def read_label_predictions(path: Path) -> LabelPredictions:
    """Read what `write_label_predictions` wrote.

    Raises:
        DataError: the file is absent, is not such a table (one of single labels neither), or is damaged.
    """
    with reading_predictions(path, _KIND) as (file, described):
        names = tuple(described["class_names"])
        labels, unknown = (read_matrix(file, prefix, names, np.bool_) for prefix in (_LABEL, _UNKNOWN))
        logits, posterior = (read_matrix(file, prefix, names) for prefix in (LOGIT, POSTERIOR))
        if labels is None or logits is None or posterior is None:
            raise ValueError("it has no labels, logits or probabilities")
        return LabelPredictions(
            np.array(read_texts(file, "image"), dtype=np.str_),
            np.array(read_texts(file, "group"), dtype=np.str_),
            labels,
            read_integers(file, "fold"),
            logits,
            names,
            posterior,
            unknown,
        )
