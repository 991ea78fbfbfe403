"""Map the labels of another data set to the classes of a study.

Shape legend: N images, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tametail.core.errors import DataError, UsageError
from tametail.core.registry import nearest
from tametail.core.text import sample_of
from tametail.data.table import UNKNOWN_COLUMN, ImageTable, join_classes


@dataclass(frozen=True)
class MappedTable:
    """A table of images with the classes of a study.

    Attributes:
        table: the images, with the study's class names.
        renamed: label of the data → class of the study, and number of images.
        dropped: label of the data → number of images that were left out; of several labels per image, those that lost it.
        absent: classes of the study without an image.
        unlabelled: labels of the study that no image of the data has, known of none; empty for one label per image.
    """

    table: ImageTable
    renamed: Mapping[str, tuple[str, int]]
    dropped: Mapping[str, int]
    absent: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()


def read_mapping(texts: Sequence[str]) -> dict[str, str]:
    """Read pairs ``THEIRS=OURS``.

    Raises:
        UsageError: a text of another form, or a label that is mapped twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        theirs, is_pair, ours = text.rpartition("=")
        theirs, ours = theirs.strip(), ours.strip()
        if not (is_pair and theirs and ours):
            raise UsageError(f"expected --map THEIRS=OURS, the names of two classes, got {text!r}")
        if found.get(theirs, ours) != ours:
            raise UsageError(
                f"expected one class for {theirs!r} with --map, got {found[theirs]!r} and {ours!r}"
            )
        found[theirs] = ours
    return found


def map_classes(
    table: ImageTable,
    class_names: Sequence[str],
    mapping: Mapping[str, str],
    *,
    drop_unknown: bool = False,
) -> MappedTable:
    """Select the images of these classes, by name or by the mapping.

    Args:
        mapping: label of the data → class of the study.
        drop_unknown: leave out images with other labels instead of raising an error.

    Raises:
        UsageError: a mapped label or class does not exist, or the table is multi-label.
        DataError: an image has an unknown label, or no image is left.
    """
    if table.multi_label:
        raise UsageError(
            "expected images with one label each, as the study has them, but these may have several; leave --multi-label out"
        )
    theirs = Counter(table.frame["label"].tolist())
    becomes, unknown = _matched(theirs, class_names, mapping)
    if unknown and not drop_unknown:
        raise _unmatched(unknown, class_names, "those images")
    labels = table.frame["label"].map(becomes)
    kept = labels.isin(list(class_names)).to_numpy()
    if not kept.any():
        raise DataError(
            f"expected images of the study's classes ({sample_of(class_names, most=20)}), found none; name pairs of classes "
            f"with --map THEIRS=OURS"
        )
    rows = np.flatnonzero(kept)
    frame = table.frame.assign(label=labels).iloc[rows].reset_index(drop=True)
    left = replace(table, frame=frame, class_names=tuple(class_names))
    return MappedTable(
        left,
        {label: (ours, theirs[label]) for label, ours in mapping.items() if label != ours},
        unknown,
        tuple(name for name, count in left.counts().items() if not count),
    )


def map_labels(
    table: ImageTable,
    class_names: Sequence[str],
    mapping: Mapping[str, str],
    *,
    drop_unknown: bool = False,
) -> MappedTable:
    """Give images that may have several labels the labels of a study, by name or by the mapping; all images are kept.

    An image has a label if it has any of those that are mapped to it. A label that no image of the data has is unknown for
    every image: whether it was looked for cannot be seen.

    Args:
        mapping: label of the data → label of the study.
        drop_unknown: leave out other labels instead of raising an error.

    Raises:
        UsageError: a mapped label does not exist, or the table has one label per image.
        DataError: the data have other labels, or none of the study's.
    """
    if not table.multi_label:
        raise UsageError(
            "expected images that may have several labels, as those of the study, but these were read with one label each; add "
            "--multi-label"
        )
    theirs = table.counts()
    becomes, unmatched = _matched(theirs, class_names, mapping)
    if unmatched and not drop_unknown:
        raise _unmatched(unmatched, class_names, "those labels")
    labels = np.zeros((len(table), len(class_names)), dtype=np.bool_)
    unknown, given = np.zeros_like(labels), np.zeros(len(class_names), dtype=np.bool_)
    own_labels, own_unknown = table.labels, table.unknown
    for column, label in enumerate(theirs):
        if label not in unmatched:
            index = class_names.index(becomes[label])
            labels[:, index] |= own_labels[:, column]
            unknown[:, index] |= own_unknown[:, column]
            given[index] = True
    if not given.any():
        raise DataError(
            f"expected labels of the study ({sample_of(class_names, most=20)}), found none; name pairs of labels with --map "
            f"THEIRS=OURS"
        )
    unknown = (unknown & ~labels) | ~given
    names = np.array(class_names, dtype=object)
    joined, left_out = ([join_classes(names[row]) for row in matrix] for matrix in (labels, unknown))
    frame = table.frame.drop(columns=UNKNOWN_COLUMN, errors="ignore").assign(label=joined)
    if unknown.any():
        frame = frame.assign(**{UNKNOWN_COLUMN: left_out})
    mapped = replace(table, frame=frame, class_names=tuple(class_names))
    return MappedTable(
        mapped,
        {label: (ours, theirs[label]) for label, ours in mapping.items() if label != ours},
        unmatched,
        tuple(name for name, count in mapped.counts().items() if not count),
        tuple(name for name, one in zip(class_names, given.tolist(), strict=True) if not one),
    )


def _matched(
    theirs: Mapping[str, int], class_names: Sequence[str], mapping: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, int]]:
    """What each label of the data becomes, and the numbers of images of those that are no class of the study."""
    for source, target in mapping.items():
        if source not in theirs:
            raise UsageError(
                f"expected a label of the data for --map, got {source!r}; {nearest(source, theirs)}"
            )
        if target not in class_names:
            raise UsageError(
                f"expected a class of the study for --map, got {target!r}; {nearest(target, class_names)}"
            )
    becomes = {label: mapping.get(label, label) for label in theirs}
    return becomes, {label: theirs[label] for label, ours in becomes.items() if ours not in class_names}


def _unmatched(unknown: Mapping[str, int], class_names: Sequence[str], what: str) -> DataError:
    listed = [f"{label} ({count} images)" for label, count in sorted(unknown.items())]
    return DataError(
        f"expected labels of the study's classes ({sample_of(class_names, most=20)}), found {sample_of(listed, most=20)} too; "
        f"say which class each is with --map THEIRS=OURS, or leave {what} out with --drop-unknown"
    )
