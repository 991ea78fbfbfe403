"""The labelled images of a study as one table: image, label, group, split, with fixed class names."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray, IntArray, TextArray
from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.reading import SourceReading

if TYPE_CHECKING:
    import pandas as pd

    from tametail.data.decoding.bit_depth import BitDepth

SPLIT_WORDS = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}

COLUMNS = ("image", "label", "group", "split")
SPLITS = ("", "train", "val", "test")
UNKNOWN_COLUMN, FOLD_COLUMN = "unknown_labels", "given_fold"
RESERVED = (UNKNOWN_COLUMN, FOLD_COLUMN)
"""Further columns with a meaning of their own."""
LABEL_SEPARATOR = "|"  # between the classes of one image in a multi-label table


@dataclass(frozen=True, eq=False)
class ImageTable:
    """N labelled images, sorted by image id. `read_images` and `from_frame` make one.

    Attributes:
        frame: the columns image (unique id: POSIX path relative to ``root``), label, group (images that must stay
            together, such as those of a patient; by default the image id) and split (``train``, ``val``, ``test`` or
            empty) as text, then any others. In a multi-label table the label holds all classes of the image in the
            order of ``class_names``, joined by ``|``; it is empty for an image without a class. Two further columns have
            a meaning: ``unknown_labels``, the classes of which it is unknown whether the image has them, in the same
            form (multi-label only), and ``given_fold``, the fold that `make_splits` uses (empty in the test set).
        root: folder that the image ids are relative to.
        class_names: C names sorted by code point, from the whole table; `take` keeps all of them.
        name: short name for titles.
        synthetic: whether the images are generated, not photographed.
        multi_label: whether an image may have several classes or none. Otherwise ``|`` has no special meaning.
        reading: what classes, groups and split were taken from; None for a table that was not read from a source.
        bit_depth: bits of grey values that are stored in more than 8; None if it is to be decided from the images, see
            `tametail.data.decoding.bit_depth`.
        slices: the rule by which the images were taken from volumes, see `tametail.data.decoding.slices`; None if they are no
            slices.

    Raises:
        ValueError: the frame is not of this form.
    """

    frame: pd.DataFrame
    root: Path
    class_names: tuple[str, ...]
    name: str
    synthetic: bool = False
    multi_label: bool = False
    reading: SourceReading | None = None
    bit_depth: int | None = None
    slices: str | None = None

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
            if any(not name or LABEL_SEPARATOR in name for name in self.class_names):
                raise ValueError(f"expected class names without {LABEL_SEPARATOR!r}, got {self.class_names}")
            unsorted = [label for label in labels if join_classes(_classes_in(label)) != label]
            if unsorted:
                raise ValueError(
                    f"expected distinct classes in sorted order in every label, got {unsorted[:3]}"
                )
            labels = {name for label in labels for name in _classes_in(label)}
        self._check_unknown()
        unknown = labels - set(self.class_names) | set(self.frame["split"]) - set(SPLITS)
        if unknown:
            raise ValueError(f"expected labels of {self.class_names} and splits of {SPLITS}, got {unknown}")

    def _check_unknown(self) -> None:
        if UNKNOWN_COLUMN not in self.frame:
            return
        if not self.multi_label:
            raise ValueError(f"expected a column {UNKNOWN_COLUMN} in multi-label tables only")
        for label, unknown in zip(self.frame["label"], self.frame[UNKNOWN_COLUMN], strict=True):
            names = _classes_in(unknown)
            if join_classes(names) != unknown or not set(names) <= set(self.class_names) - set(
                _classes_in(label)
            ):
                raise ValueError(
                    f"expected distinct classes in sorted order, and none that the image has, as {UNKNOWN_COLUMN}, got {unknown!r}"
                )

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        root: Path,
        name: str,
        *,
        synthetic: bool = False,
        multi_label: bool = False,
        allow_leaks: bool = False,
        reading: SourceReading | None = None,
    ) -> ImageTable:
        """Make a table of rows in any order; the classes are those of the labels, also of unknown ones.

        Args:
            frame: columns as described above; group and split are optional.
            root, name, synthetic, multi_label, reading: see the attributes.
            allow_leaks: accept groups that are both in the test set and outside it, for inspection.

        Raises:
            DataError: there are fewer than two classes, a name cannot be written in UTF-8, or a group is both in the test
                set and outside it.
        """
        if "group" not in frame:
            frame = frame.assign(group=frame["image"])
        if "split" not in frame:
            frame = frame.assign(split="")
        labels = set(frame["label"])
        if multi_label:
            labels = {part for label in labels for part in label.split(LABEL_SEPARATOR)} - {""}
        classes = tuple(sorted(labels))
        if len(classes) < 2:
            found = f"only {classes[0]!r} on all {len(frame)} images" if classes else "none"
            raise DataError(f"expected at least two classes, found {found}")
        if "" in classes:
            unnamed = sample_of(frame.loc[frame["label"] == "", "image"].tolist())
            raise DataError(f"expected a class with a name for every image, found none for {unnamed}")
        _check_encodable(frame["image"].tolist(), "file names", "the file")
        _check_encodable([*classes, *set(frame["group"])], "labels and groups", "it")
        if not allow_leaks:
            _check_leaks(frame)
        ordered = _with_unknown_of(classes, frame.sort_values("image", ignore_index=True))
        # Arrow strings, which take half the memory of Python's; with pandas 2 they stay as they are.
        ordered = ordered.astype(dict.fromkeys(COLUMNS, "str"))
        return cls(
            ordered, root, classes, name, synthetic=synthetic, multi_label=multi_label, reading=reading
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {count}" for name, count in self.counts().items())
        return f"ImageTable({self.name!r}, {len(self)} images, {len(set(self.frame['group']))} groups, {{{counts}}})"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def paths(self) -> list[Path]:
        """N paths of image files; those of packed data exist only for `tametail.data.read_file`."""
        return [self.root / image for image in self.frame["image"]]

    @property
    def images(self) -> TextArray:
        """(N,) image ids."""
        return np.array(self.frame["image"].tolist(), dtype=np.str_)

    @property
    def groups(self) -> TextArray:
        """(N,) groups."""
        return np.array(self.frame["group"].tolist(), dtype=np.str_)

    @property
    def targets(self) -> IntArray:
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
    def labels(self) -> BoolArray:
        """(N, C) which classes each image has; one per row unless the table is multi-label."""
        matrix = np.zeros((len(self), len(self.class_names)), dtype=np.bool_)
        if not self.multi_label:
            matrix[np.arange(len(self)), self.targets] = True
            return matrix
        codes = {name: code for code, name in enumerate(self.class_names)}
        for row, label in enumerate(self.frame["label"]):
            matrix[row, [codes[name] for name in _classes_in(label)]] = True
        return matrix

    @property
    def unknown(self) -> BoolArray:
        """(N, C) labels of which it is unknown whether the image has them; they are False in ``labels``."""
        matrix = np.zeros((len(self), len(self.class_names)), dtype=np.bool_)
        if UNKNOWN_COLUMN in self.frame:
            codes = {name: code for code, name in enumerate(self.class_names)}
            for row, names in enumerate(self.frame[UNKNOWN_COLUMN]):
                matrix[row, [codes[name] for name in _classes_in(names)]] = True
        return matrix

    def counts(self) -> dict[str, int]:
        """Images per class, in the order of ``class_names``; 0 for classes without an image.

        In a multi-label table an image counts for each of its classes, so that the counts need not sum to N.
        """
        return dict(zip(self.class_names, self.labels.sum(axis=0).tolist(), strict=True))

    @property
    def imbalance_ratio(self) -> float:
        """Images of the largest class per image of the smallest; infinite where a class is absent."""
        counts = self.counts().values()
        return max(counts) / min(counts) if min(counts) else math.inf

    @property
    def training_set(self) -> ImageTable:
        """The images outside the given test set; all of them where none is given."""
        return self.take((self.frame["split"] != "test").to_numpy())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of image ids, labels, groups, splits, given folds and class names; the same on every machine.

        It covers neither the pixels nor the other columns.
        """
        rows = (
            self.frame[[*COLUMNS, *(name for name in RESERVED if name in self.frame)]]
            .to_numpy(dtype=object)
            .tolist()
        )
        digest = hashlib.sha256()
        mark = [["multi_label"]] if self.multi_label else []
        for row in [*mark, list(self.class_names), *rows]:
            digest.update(json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n")
        return digest.hexdigest()

    def with_groups(self, groups: Sequence[str], source: str, *, allow_leaks: bool = False) -> ImageTable:
        """The same images in other groups.

        Args:
            groups: N groups.
            source: where they are from, for the reading.
            allow_leaks: see `from_frame`.

        Raises:
            DataError: see `from_frame`.
        """
        frame = self.frame.assign(group=np.array(groups, dtype=object)).astype({"group": "str"})
        _check_encodable(list(set(groups)), "groups", "it")
        if not allow_leaks:
            _check_leaks(frame)
        reading = None if self.reading is None else replace(self.reading, groups=source)
        return replace(self, frame=frame, reading=reading)

    def read_at(self, depth: BitDepth) -> ImageTable:
        """The same images with the bit depth that was decided for them, which their reading then names."""
        reading = None if self.reading is None else replace(self.reading, grey=str(depth))
        return replace(self, bit_depth=depth.bits, reading=reading)

    def take(self, rows: BoolArray | NDArray[np.integer]) -> ImageTable:
        """A table of some rows, given as a mask (N,) or as indices in any order, with the same class names."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.sort(rows)
        if rows.dtype == np.bool_ and rows.shape != (len(self),):
            raise ValueError(f"expected a mask of {len(self)} rows, got shape {rows.shape}")
        return replace(self, frame=self.frame.iloc[chosen].reset_index(drop=True))


def join_classes(names: Iterable[str]) -> str:
    """The label of an image in a multi-label table: each class once, in sorted order, joined by ``|``."""
    return LABEL_SEPARATOR.join(sorted(set(names)))


def _with_unknown_of(classes: Sequence[str], frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with unknown labels of these classes only, and without the column if there is none."""
    if UNKNOWN_COLUMN not in frame:
        return frame
    unknown = [join_classes(set(_classes_in(names)) & set(classes)) for names in frame[UNKNOWN_COLUMN]]
    return frame.assign(**{UNKNOWN_COLUMN: unknown}) if any(unknown) else frame.drop(columns=UNKNOWN_COLUMN)


def _check_leaks(frame: pd.DataFrame) -> None:
    tested = frame["split"] == "test"
    leaks = sorted(set(frame.loc[tested, "group"]) & set(frame.loc[~tested, "group"]))
    if leaks:
        raise DataError(
            f"the given split leaks: {len(leaks)} groups have images both in test and outside it "
            f"({sample_of(leaks)}); put each group on one side, or leave the given split out"
        )


def _check_encodable(texts: list[str], what: str, thing: str) -> None:
    """Refuse lone surrogates, by which Python represents bytes of file names that are not UTF-8."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"expected {what} in UTF-8, found {text!r}; rename {thing}") from error


def _classes_in(label: str) -> list[str]:
    return label.split(LABEL_SEPARATOR) if label else []
