"""The seam between training and evidence: one table of predictions per run, kept as parquet.

Every number and picture is computed from these tables, again, at any time, without torch.
Shape legend: N images, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tametail.errors import DataError

Link = Literal["softmax", "sigmoid"]
_LOGIT = "logit_"


@dataclass(frozen=True)
class Predictions:
    """Logits of N images over C classes, with what is needed to judge them.

    Attributes:
        image: (N,) image ids, unique within one table.
        group: (N,) what must not be split (a patient, a lesion).
        target: (N,) class indices into ``class_names``.
        fold: (N,) the fold whose model made the row (the fold the image was held out in, or, on the
            test part, the fold of the model).
        logits: (N, C) float32.
        class_names: C names, in the order of the logits.
        link: how logits become probabilities: ``softmax`` or ``sigmoid``.

    Raises:
        ValueError: lengths differ, an image or a class name comes twice, a target is no class index, a
            logit is not finite, or the link is unknown.
    """

    image: NDArray[np.str_]
    group: NDArray[np.str_]
    target: NDArray[np.int64]
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]
    class_names: tuple[str, ...]
    link: Link

    def __post_init__(self) -> None:
        rows = len(self.image)
        if self.logits.shape != (rows, len(self.class_names)):
            raise ValueError(f"expected logits {(rows, len(self.class_names))}, got {self.logits.shape}")
        for name in ("group", "target", "fold"):
            if len(getattr(self, name)) != rows:
                raise ValueError(f"expected {rows} entries in {name}, got {len(getattr(self, name))}")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"expected different class names, got {self.class_names}")
        if rows and not (self.target.min() >= 0 and self.target.max() < len(self.class_names)):
            raise ValueError(f"expected targets in 0..{len(self.class_names) - 1}, got others")
        if len(np.unique(self.image)) != rows:
            raise ValueError("expected each image once in a table of predictions, got some twice")
        if not np.isfinite(self.logits).all():
            # argmax would quietly turn a row of nan into a vote for the first class.
            raise ValueError("expected finite logits, got nan or infinity")
        if self.link not in get_args(Link):
            raise ValueError(f"expected link 'softmax' or 'sigmoid', got {self.link!r}")

    def __len__(self) -> int:
        return len(self.image)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the class of the largest logit. Both links are monotone, so it is also the most probable."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, C) probabilities that sum to one in each row."""
        return probabilities(self.logits, self.link)

    def sorted_by_image(self) -> Predictions:
        """The same rows in the order of the image ids."""
        order = np.argsort(self.image, kind="stable")
        return Predictions(
            self.image[order],
            self.group[order],
            self.target[order],
            self.fold[order],
            self.logits[order],
            self.class_names,
            self.link,
        )


def probabilities(logits: NDArray[np.floating], link: Link) -> NDArray[np.float64]:
    """Turn logits (N, C) into probabilities (N, C) that sum to one in each row.

    Under ``sigmoid`` each class has its own yes-or-no probability; as the classes exclude each other,
    they are scaled to sum to one.
    """
    z = logits.astype(np.float64)
    if link == "softmax":
        scores = np.exp(z - z.max(axis=1, keepdims=True))
    elif link == "sigmoid":
        log_p = -np.logaddexp(0.0, -z)
        scores = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    else:
        raise ValueError(f"expected link 'softmax' or 'sigmoid', got {link!r}")
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


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
    joined = Predictions(
        np.concatenate([t.image for t in tables]),
        np.concatenate([t.group for t in tables]),
        np.concatenate([t.target for t in tables]),
        np.concatenate([t.fold for t in tables]),
        np.concatenate([t.logits for t in tables]),
        first.class_names,
        first.link,
    )
    return joined.sorted_by_image()


def ensemble(tables: Sequence[Predictions]) -> Predictions:
    """Average the probabilities of several models over the same images; logits of the result are their logs.

    The result has fold -1 and link ``softmax``, since the log of a probability is a logit under softmax.

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
    mean = np.mean([table.probabilities for table in ordered], axis=0)
    logits = np.log(np.maximum(mean, np.finfo(np.float64).tiny)).astype(np.float32)
    fold = np.full(len(first), -1, dtype=np.int64)
    return Predictions(first.image, first.group, first.target, fold, logits, first.class_names, "softmax")


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write one table as parquet: image, group, label, fold and one ``logit_<class>`` column per class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [predictions.class_names[code] for code in predictions.target]
    columns: dict[str, object] = {
        "image": pa.array(predictions.image.tolist(), pa.string()),
        "group": pa.array(predictions.group.tolist(), pa.string()),
        "label": pa.array(labels, pa.string()),
        "fold": predictions.fold,
    }
    for index, name in enumerate(predictions.class_names):
        columns[_LOGIT + name] = np.ascontiguousarray(predictions.logits[:, index])
    described = json.dumps({"class_names": predictions.class_names, "link": predictions.link})
    table = pa.table(columns).replace_schema_metadata({"tametail": described})
    pq.write_table(table, path, write_page_checksum=True)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        DataError: the file is absent, is not such a table, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Exactly one file: pq.read_table would also take a folder of them.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if any(column.null_count for column in table.columns):
            raise ValueError("values are missing")
        described = json.loads((table.schema.metadata or {})[b"tametail"])
        class_names = tuple(described["class_names"])
        codes = {name: index for index, name in enumerate(class_names)}
        logits = np.stack([table[_LOGIT + name].to_numpy() for name in class_names], axis=1)
        return Predictions(
            np.array(table["image"].to_pylist(), dtype=np.str_),
            np.array(table["group"].to_pylist(), dtype=np.str_),
            np.array([codes[label] for label in table["label"].to_pylist()], dtype=np.int64),
            table["fold"].to_numpy().astype(np.int64),
            logits.astype(np.float32),
            class_names,
            described["link"],
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"expected a table of predictions at {path}, but it cannot be read: {error}"
        ) from error
