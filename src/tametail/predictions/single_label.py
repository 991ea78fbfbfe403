"""Single-label predictions: the interface between training and evaluation, one table per run, stored as Parquet.

All results and figures are computed from these tables, without torch.
Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import row_blocks
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
        return self.probabilities_of(slice(None))

    def probabilities_of(self, rows: slice | NDArray[np.bool_ | np.integer]) -> NDArray[np.float64]:
        """`probabilities` of these rows only."""
        if self.posterior is None:
            return scores(self.logits[rows], self.link)
        return exclusive(self.posterior[rows].astype(np.float64))

    def probability_blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """`probabilities` by blocks of rows: the rows (B of them), and (B, C)."""
        return ((rows, self.probabilities_of(rows)) for rows in row_blocks(len(self)))

    def class_probabilities(self, index: int) -> NDArray[np.float64]:
        """Column (N,) of `probabilities`: those of one class."""
        highest, total = self._row_scale
        if self.posterior is None:
            log_share = _log_shares(self.logits[:, index], self.link)
            return np.asarray(np.exp(log_share - highest) / total)
        with np.errstate(invalid="ignore"):
            p = self.posterior[:, index] / total
        return p if (total > 0).all() else np.where(total > 0, p, 1 / len(self.class_names))

    @cached_property
    def _row_scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What `class_probabilities` needs of the other classes: (N,) largest exponent, of scores, and (N,) sum of each row."""
        highest, total = np.zeros(len(self)), np.empty(len(self))
        for rows in row_blocks(len(self)):
            if self.posterior is None:
                share, highest[rows] = _shares(self.logits[rows], self.link)
            else:
                share = self.posterior[rows].astype(np.float64)
            total[rows] = share.sum(axis=1)
        return highest, total


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
    ordered = (table.image[:-1] < table.image[1:]).all()
    if not ordered and len(np.unique(table.image)) != rows:
        raise ValueError("expected each image once in a table of predictions, got some twice")
    # The least and the largest are nan if any is.
    if table.logits.size and not np.isfinite([table.logits.min(), table.logits.max()]).all():
        # argmax would silently turn a row of nan into the first class.
        raise ValueError("expected finite logits, got nan or infinity")
    p = table.posterior
    if p is not None and p.size and not (p.min() >= 0 and p.max() <= 1):
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
    share, _ = _shares(logits, link)
    share /= share.sum(axis=1, keepdims=True)
    return share


def _shares(logits: NDArray[np.floating], link: LinkName) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores (N, C) relative to the largest of their row, and the logarithm (N,) of that one."""
    log_share = _log_shares(logits, link)
    highest = log_share.max(axis=1)
    return np.exp(log_share - highest[:, None]), highest


def _log_shares(logits: NDArray[np.floating], link: LinkName) -> NDArray[np.float64]:
    """Logarithms of the scores before they are scaled to sum to one."""
    z = logits.astype(np.float64)
    if link == "softmax":
        return z
    if link == "sigmoid":
        return np.asarray(-np.logaddexp(0.0, -z))
    raise ValueError(f"expected link 'softmax' or 'sigmoid', got {link!r}")


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
    columns: dict[str, Column] = {
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
    with reading_predictions(path, "single_label") as (file, described):
        class_names = tuple(described["class_names"])
        codes = {name: index for index, name in enumerate(class_names)}
        logits, posterior = (read_matrix(file, kind, class_names) for kind in (LOGIT, POSTERIOR))
        if logits is None:
            raise ValueError("it has no logits")
        return Predictions(
            np.array(read_texts(file, "image"), dtype=np.str_),
            np.array(read_texts(file, "group"), dtype=np.str_),
            np.array([codes[label] for label in read_texts(file, "label")], dtype=np.int64),
            read_integers(file, "fold"),
            logits,
            class_names,
            described["link"],
            posterior,
        )
