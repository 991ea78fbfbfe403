"""The labelled images of a study as one table: image, label, group, split. Class names are fixed here, once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

if TYPE_CHECKING:
    import pandas as pd

SPLIT_WORDS = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}

COLUMNS = ("image", "label", "group", "split")
SPLITS = ("", "train", "val", "test")
LABEL_SEPARATOR = "|"  # between the classes of one image in a multi-label table


@dataclass(frozen=True, eq=False)
class ImageTable:
    """N labelled images, sorted by image id.

    Attributes:
        frame: columns image (unique id: POSIX path relative to root), label, group (what must not be split, such
            as a patient; the image id where none is known), split (``train``, ``val``, ``test`` or empty), then
            the columns carried along. Text in the first four. In a multi-label table the label holds all classes of
            the image in the order of ``class_names``, joined by ``|``; it is empty where the image has none.
        root: folder the image ids are relative to.
        class_names: C names sorted by code point, from the whole table; kept by every part taken of it.
        name: short name for titles.
        synthetic: the images are drawn, not taken.
        multi_label: an image may be of several classes or of none. Without it ``|`` is a letter like any other.

    Raises:
        ValueError: the frame is not of this form.
    """

    frame: pd.DataFrame
    root: Path
    class_names: tuple[str, ...]
    name: str
    synthetic: bool = False
    multi_label: bool = False

    def __post_init__(self) -> None:
        if tuple(self.frame.columns[:4]) != COLUMNS:
            raise ValueError(f"expected a frame that begins with {COLUMNS}, got {list(self.frame.columns)}")
        if self.class_names != tuple(sorted(set(self.class_names))):
            raise ValueError(f"expected distinct class names in sorted order, got {self.class_names}")
        images = self.frame["image"].tolist()
        if any(left >= right for left, right in pairwise(images)):
            raise ValueError("expected unique image ids in sorted order")
        labels = set(self.frame["label"])
        if self.multi_label:
            self._check_multi_labels(labels)
            labels = {name for label in labels for name in _classes_in(label)}
        strangers = labels - set(self.class_names) | set(self.frame["split"]) - set(SPLITS)
        if strangers:
            raise ValueError(f"expected labels of {self.class_names} and splits of {SPLITS}, got {strangers}")

    def _check_multi_labels(self, labels: set[str]) -> None:
        if any(not name or LABEL_SEPARATOR in name for name in self.class_names):
            raise ValueError(f"expected class names without {LABEL_SEPARATOR!r}, got {self.class_names}")
        unsorted = [label for label in labels if join_classes(_classes_in(label)) != label]
        if unsorted:
            raise ValueError(f"expected distinct classes in sorted order in every label, got {unsorted[:3]}")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def paths(self) -> list[Path]:
        """N file paths."""
        return [self.root / image for image in self.frame["image"]]

    @property
    def images(self) -> NDArray[np.str_]:
        """(N,) image ids."""
        return np.array(self.frame["image"].tolist(), dtype=np.str_)

    @property
    def groups(self) -> NDArray[np.str_]:
        """(N,) groups."""
        return np.array(self.frame["group"].tolist(), dtype=np.str_)

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N,) class indices into ``class_names``.

        Raises:
            ValueError: the table is multi-label, so that an image has no single class.
        """
        if self.multi_label:
            raise ValueError(
                "expected one class per image, but this table is multi-label; use labels, the (N, C) matrix of classes"
            )
        codes = {name: code for code, name in enumerate(self.class_names)}
        return np.array([codes[label] for label in self.frame["label"]], dtype=np.int64)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """(N, C) which classes each image has, of any table; one per row unless the table is multi-label."""
        matrix = np.zeros((len(self), len(self.class_names)), dtype=np.bool_)
        if not self.multi_label:
            matrix[np.arange(len(self)), self.targets] = True
            return matrix
        codes = {name: code for code, name in enumerate(self.class_names)}
        for row, label in enumerate(self.frame["label"]):
            matrix[row, [codes[name] for name in _classes_in(label)]] = True
        return matrix

    def counts(self) -> dict[str, int]:
        """Images per class, in the order of ``class_names``; classes absent from this part count 0.

        In a multi-label table an image counts for each of its classes, so that they need not sum to N.
        """
        counted = (
            self.labels.sum(axis=0)
            if self.multi_label
            else np.bincount(self.targets, minlength=len(self.class_names))
        )
        return dict(zip(self.class_names, counted.tolist(), strict=True))

    @property
    def imbalance_ratio(self) -> float:
        """Images of the largest class per image of the smallest; infinite where a class is absent."""
        counts = self.counts().values()
        return max(counts) / min(counts) if min(counts) else math.inf

    @property
    def fingerprint(self) -> str:
        """SHA-256 of image ids, labels, groups, splits and class names: the same on every machine.

        It covers what a study is made of; the pixels have digests of their own, and carried columns no part in it.
        """
        rows = self.frame[list(COLUMNS)].to_numpy(dtype=object).tolist()
        digest = hashlib.sha256()
        # The mark stands only where it says something: tables of one class per image keep the digest they always had.
        mark = [["multi_label"]] if self.multi_label else []
        for row in [*mark, list(self.class_names), *rows]:
            digest.update(json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n")
        return digest.hexdigest()

    def take(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> ImageTable:
        """The table of some rows, given as a mask (N,) or as indices in any order; class names are kept."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.sort(rows)
        if rows.dtype == np.bool_ and rows.shape != (len(self),):
            raise ValueError(f"expected a mask of {len(self)} rows, got shape {rows.shape}")
        return replace(self, frame=self.frame.iloc[chosen].reset_index(drop=True))


def join_classes(names: Iterable[str]) -> str:
    """Classes of one image → its label in a multi-label table: each class once, in sorted order."""
    return LABEL_SEPARATOR.join(sorted(set(names)))


def _classes_in(label: str) -> list[str]:
    return label.split(LABEL_SEPARATOR) if label else []
