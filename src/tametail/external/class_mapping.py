"""Labels of another data set → the classes of a study: mapped where asked, refused where unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tametail.core.errors import DataError, UsageError
from tametail.core.registry import nearest
from tametail.core.text import sample_of
from tametail.data.table import ImageTable


@dataclass(frozen=True)
class MappedTable:
    """A table in the classes of a study.

    Attributes:
        table: its labels are all of the study's classes, and its class names are the study's.
        renamed: their label → our class and how many images that are.
        dropped: their label → images that were left out.
        absent: classes of the study that no image is of.
    """

    table: ImageTable
    renamed: Mapping[str, tuple[str, int]]
    dropped: Mapping[str, int]
    absent: tuple[str, ...]


def read_mapping(texts: Sequence[str]) -> dict[str, str]:
    """``theirs=ours`` of each text.

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
    """The images whose labels are of these classes, by name or as mapped.

    Args:
        mapping: their label → our class.
        drop_unknown: leave out the images of other labels, in place of an error.

    Raises:
        UsageError: a label or a class to be mapped is not there, or the table is multi-label.
        DataError: images have labels of no class, or none are left.
    """
    if table.multi_label:
        raise UsageError(
            "expected images with one label each, as the study has them, but these may have several; leave --multi-label out"
        )
    theirs = Counter(table.frame["label"].tolist())
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
    unknown = {label: theirs[label] for label, ours in becomes.items() if ours not in class_names}
    if unknown and not drop_unknown:
        listed = [f"{label} ({count} images)" for label, count in sorted(unknown.items())]
        raise DataError(
            f"expected labels of the study's classes ({sample_of(class_names, most=20)}), found {sample_of(listed, most=20)} too; "
            f"say which class each is with --map THEIRS=OURS, or leave those images out with --drop-unknown"
        )
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
