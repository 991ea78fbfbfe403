"""Single-label predictions: the interface between training and evaluation, one table per run, stored as Parquet.

All results and figures are computed from these tables, without torch.
Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from tametail.predictions.parquet import (
    LOGIT,
    POSTERIOR,
    columns_by_class,
    read_matrix,
    read_texts,
    reading_predictions,
    write_parquet,
)

LinkName = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class PredictionRows:
    """Base of the tables of predictions: every array has one row per image."""

    def __len__(self) -> int:
        return len(self.arrays["image"])

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by attribute."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def take(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> Self:
        """Select rows by a mask (N,) or by indices."""
        return replace(self, **{name: values[rows] for name, values in self.arrays.items()})

    def sorted_by_image(self) -> Self:
        """The rows sorted by image id; the table itself if they are sorted."""
        image = self.arrays["image"]
        return self if (image[:-1] < image[1:]).all() else self.take(np.argsort(image, kind="stable"))

    def joined(self, others: Sequence[Self]) -> Self:
        """The rows of this table and others with the same classes, sorted by image id."""
        tables = [table.arrays for table in (self, *others)]
        rows = {name: np.concatenate([arrays[name] for arrays in tables]) for name in self.arrays}
        return replace(self, **rows).sorted_by_image()


@dataclass(frozen=True)
class Predictions(PredictionRows):
    """Predictions of one model for N images and C classes, with the targets.

    Attributes:
        image: (N,) image ids, unique within one table.
        group: (N,) group ids (patient, lesion), which are never split.
        target: (N,) class indices into ``class_names``.
        fold: (N,) fold of the model: the one in which the image was held out, or, on the test set, the
            fold that the model was validated on.
        logits: (N, C) float32; the predicted class has the largest.
        class_names: C names, in the order of the logits.
        link: how logits become ``scores``: ``softmax`` or ``sigmoid``.
        posterior: (N, C) float32 rows that sum to one: probabilities by the loss's own link, at the class frequencies
            of the training set; None if only logits are known.

    Raises:
        ValueError: lengths differ, an image or a class name is duplicated, a target is no class index, a
            logit is not finite, or the link is unknown.
    """

    image: NDArray[np.str_]
    group: NDArray[np.str_]
    target: NDArray[np.int64]
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]
    class_names: tuple[str, ...]
    link: LinkName
    posterior: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        check_rows(self, ("group", "target", "fold"))
        if len(self) and not (self.target.min() >= 0 and self.target.max() < len(self.class_names)):
            raise ValueError(f"expected targets in 0..{len(self.class_names) - 1}, got others")
        if self.link not in get_args(LinkName):
            raise ValueError(f"expected link 'softmax' or 'sigmoid', got {self.link!r}")

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Predicted classes (N,): those of the largest logit."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Logits (N, C) as scores that sum to one in each row, in the same order."""
        return scores(self.logits, self.link)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities (N, C) that sum to one in each row: the posterior, or the scores if there is none."""
        return self.scores if self.posterior is None else exclusive(self.posterior.astype(np.float64))


def check_rows(table: Any, vectors: Sequence[str], matrices: Sequence[str] = ("logits", "posterior")) -> None:
    """Validate the attributes of a table of predictions, (N,) by ``vectors`` and (N, C) or None by ``matrices``.

    Raises:
        ValueError: numbers of rows or classes differ, an image is duplicated, or a number is invalid.
    """
    rows, names = len(table.image), table.class_names
    for name in matrices:
        values = getattr(table, name)
        if values is not None and values.shape != (rows, len(names)):
            raise ValueError(f"expected {name} {(rows, len(names))}, got {values.shape}")
    for name in vectors:
        if len(getattr(table, name)) != rows:
            raise ValueError(f"expected {rows} entries in {name}, got {len(getattr(table, name))}")
    if len(set(names)) != len(names):
        raise ValueError(f"expected different class names, got {names}")
    if len(np.unique(table.image)) != rows:
        raise ValueError("expected each image once in a table of predictions, got some twice")
    if not np.isfinite(table.logits).all():
        # argmax would silently turn a row of nan into the first class.
        raise ValueError("expected finite logits, got nan or infinity")
    if table.posterior is not None and not ((table.posterior >= 0) & (table.posterior <= 1)).all():
        raise ValueError("expected posterior probabilities in [0, 1], got others")


def exclusive(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale probabilities (N, C) to sum to one in each row, as the classes are mutually exclusive.

    A row of zeros becomes uniform.
    """
    total = p.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.asarray(np.where(total > 0, p / np.where(total > 0, total, 1.0), 1 / p.shape[1]))


def for_prevalence(
    p: NDArray[np.float64], trained: NDArray[np.float64], prevalence: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Adapt probabilities (N, C) to a population with another prevalence (C,) than the training set.

    By Bayes' rule each class is weighted by prevalence / trained, and the rows are normalised; the distribution of the
    images within a class is assumed to be the same (prior shift). A class without training images gets 0; a row without
    any remaining class gets the prevalence.
    """
    ratio = np.where(trained > 0, prevalence / np.where(trained > 0, trained, 1.0), 0.0)
    weighted = p * ratio
    return np.where(
        weighted.sum(axis=1, keepdims=True) > 0, exclusive(weighted), prevalence / prevalence.sum()
    )


def scores(logits: NDArray[np.floating], link: LinkName) -> NDArray[np.float64]:
    """Convert logits (N, C) to scores (N, C) that sum to one in each row, in the order of the logits.

    With ``sigmoid`` each class has a binary probability; these are scaled to sum to one, as the classes are mutually
    exclusive.
    """
    z = logits.astype(np.float64)
    if link == "softmax":
        share = np.exp(z - z.max(axis=1, keepdims=True))
    elif link == "sigmoid":
        log_p = -np.logaddexp(0.0, -z)
        share = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    else:
        raise ValueError(f"expected link 'softmax' or 'sigmoid', got {link!r}")
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def concatenate(tables: Sequence[Predictions]) -> Predictions:
    """Join tables of the same classes and link, e.g. the folds of one seed, into one sorted by image.

    Raises:
        ValueError: no table, tables of different classes or links, or an image in two of them.
    """
    if not tables:
        raise ValueError("expected at least one table of predictions, got none")
    first = tables[0]
    for table in tables[1:]:
        if table.class_names != first.class_names or table.link != first.link:
            raise ValueError("expected tables of the same classes and link")
    posteriors = [t.posterior for t in tables if t.posterior is not None]
    if len(posteriors) not in (0, len(tables)):
        raise ValueError("expected posterior probabilities in all tables or in none")
    return first.joined(tables[1:])


def ensemble(tables: Sequence[Predictions]) -> Predictions:
    """Average the scores and probabilities of several models on the same images.

    The logits of the result are the logs of the mean scores, so its link is ``softmax``; its fold is -1.

    Raises:
        ValueError: no table, or tables that differ in images, targets or classes.
    """
    if not tables:
        raise ValueError("expected at least one table of predictions, got none")
    ordered = [table.sorted_by_image() for table in tables]
    first = ordered[0]
    for table in ordered[1:]:
        if not np.array_equal(table.image, first.image) or table.class_names != first.class_names:
            raise ValueError("expected tables over the same images and classes")
        if not np.array_equal(table.target, first.target):
            raise ValueError("expected the same target for an image in every table")
    mean = np.mean([table.scores for table in ordered], axis=0)
    logits = np.log(np.maximum(mean, np.finfo(np.float64).tiny)).astype(np.float32)
    posterior = np.mean([table.probabilities for table in ordered], axis=0).astype(np.float32)
    fold = np.full(len(first), -1, dtype=np.int64)
    return Predictions(
        first.image, first.group, first.target, fold, logits, first.class_names, "softmax", posterior
    )


def write_predictions(predictions: Predictions, path: Path, **noted: int) -> None:
    """Write one table as parquet: image, group, label, fold, and per class ``logit_<class>`` and ``p_<class>``.

    The latter are the posterior, if there is one. The metadata also hold what is ``noted``.
    """
    names = predictions.class_names
    columns: dict[str, object] = {
        "image": predictions.image.tolist(),
        "group": predictions.group.tolist(),
        "label": [names[code] for code in predictions.target],
        "fold": predictions.fold,
    }
    columns |= columns_by_class(names, {LOGIT: predictions.logits, POSTERIOR: predictions.posterior})
    write_parquet(columns, {"class_names": names, "link": predictions.link, **noted}, path)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        DataError: the file is absent, is not such a table, or is damaged.
    """
    with reading_predictions(path, "single_label") as (table, described):
        class_names = tuple(described["class_names"])
        codes = {name: index for index, name in enumerate(class_names)}
        logits, posterior = (read_matrix(table, kind, class_names) for kind in (LOGIT, POSTERIOR))
        if logits is None:
            raise ValueError("it has no logits")
        return Predictions(
            read_texts(table, "image"),
            read_texts(table, "group"),
            np.array([codes[label] for label in table["label"].to_pylist()], dtype=np.int64),
            table["fold"].to_numpy().astype(np.int64),
            logits.astype(np.float32),
            class_names,
            described["link"],
            None if posterior is None else posterior.astype(np.float32),
        )
