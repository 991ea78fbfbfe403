"""Tables of labelled images: a file → columns image, label, group, split, and all others as they are.

Labels are in a column of class names, in a column of several names each, or in one column per class. Errors name the
rows, columns and values that are wrong. Shape legend: R rows, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tametail.core.arrays import BoolArray
from tametail.core.errors import DataError
from tametail.core.text import counted, sample_of
from tametail.data.readers.given_splits import fold_cells, folds_in_words, split_column, split_values
from tametail.data.readers.image_entries import DICOM_SUFFIXES
from tametail.data.readers.label_columns import RowLabels, row_labels
from tametail.data.readers.locate_images import LocatedImages, locate_images
from tametail.data.readers.metadata_table import join_metadata, tables_beside
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.row_groups import join_rows
from tametail.data.readers.table_columns import MISSING, filled, find_column, image_column
from tametail.data.readers.table_file import TABLE_SUFFIXES, TableFile, read_table_file, whole_number
from tametail.data.reading import NO_GROUPS, NO_SPLIT, SourceReading
from tametail.data.table import COLUMNS, FOLD_COLUMN, RESERVED, UNKNOWN_COLUMN, ImageTable, join_classes

if TYPE_CHECKING:
    import pandas as pd


@register_reader
class TableReader(Reader):
    """Reads a CSV, TSV, Excel, Parquet or JSON Lines file."""

    name = "table"
    priority = 0

    def matches(self, source: str | Path) -> bool:
        path = Path(source).expanduser()
        return path.suffix.lower() in TABLE_SUFFIXES and path.exists() and not path.is_dir()

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        path = Path(source).expanduser()
        return table_of_images(path, options, path.stem)


def table_of_images(path: Path, options: ReadOptions, name: str) -> ImageTable:
    """Read a table whose images are relative to ``options.image_root`` or to its own folder.

    Raises:
        DataError: the folder of the images does not exist, or the table is not valid.
    """
    root = path.parent if options.image_root is None else options.image_root
    if not root.is_dir():
        raise DataError(f"expected the folder of the images at {root} (--image-root), but there is none")
    frame, reading = read_table(path, options, root)
    return ImageTable.from_frame(
        frame, root, name, multi_label=options.multi_label, allow_leaks=options.allow_leaks, reading=reading
    )


def read_table(
    path: Path,
    options: ReadOptions,
    root: Path,
    *,
    base: Path | None = None,
    locate: Callable[[Sequence[str]], list[str]] | None = None,
) -> tuple[pd.DataFrame, SourceReading]:
    """Read a table of images below ``root``: `read_rows`, with the number of images that no row names.

    Returns:
        The frame, and how it was read.
    """
    frame, reading, others = read_rows(path, options, root, base=base, locate=locate)
    return frame, reading.without(unnamed_images(others))


def unnamed_images(others: frozenset[str]) -> str:
    """What to say of images that no row names; nothing if there is none."""
    return f"{counted(len(others), 'image file')} that no row names" if others else ""


def read_rows(
    path: Path,
    options: ReadOptions,
    root: Path,
    *,
    base: Path | None = None,
    locate: Callable[[Sequence[str]], list[str]] | None = None,
    part: str | None = None,
) -> tuple[pd.DataFrame, SourceReading, frozenset[str]]:
    """Read a table of images below ``root``.

    Args:
        path: CSV, TSV, Excel, Parquet or JSON Lines file.
        options: which columns are image, label, group and split; None for the column of that name (in any case), or without
            a header for the first and the second. Group and split are optional: by default the group is the image (of DICOM
            the patient) and the split empty.
        base: folder that the image entries are relative to, ``root`` by default.
        locate: finds the images in another way: N entries → N ids.
        part: the split of the table, if it is one of several: a class may have its images in another one, and a test set
            has no folds.

    Returns:
        Columns image (POSIX path of an existing file, relative to ``root``), label, group, split (train, val, test or
        empty), those of `RESERVED` that apply, then all others, as numbers where every cell is one, else as written; one row
        per image. How they were read. And the images in the same folders that no row names.

    Raises:
        UsageError: an option that does not apply to the table.
        DataError: the file, a column, a cell or an image is missing, or rows contradict each other.
    """
    file = read_table_file(path, header=options.header)
    if not options.header:
        chosen = options.label_col or (None if options.label_cols else "2")
        options = replace(options, image_col=options.image_col or "1", label_col=chosen)
    image = image_column(file, options)
    # What the first table's rows leave out is said apart from the second's.
    blank_rows, noted = file.notes, len(file.notes)
    other_tables = tables_beside(file, image) if options.metadata is None and locate is None else ()
    if options.metadata is not None:
        file = join_metadata(file, image, options.metadata)
    group = find_column(file, "group", options.group_col)
    split = find_column(file, "split", options.split_col)
    folded = options.fold_col is not None and part != "test"
    fold = find_column(file, "fold", options.fold_col, "--fold-col") if folded else None
    reader = find_column(file, "reader", options.reader_col) if options.reader_col else None
    if group is None:
        options.refuse(f"{path.name} has no group column (--group-col)", "blank_groups")
    if split is None:
        options.refuse(f"{path.name} has no split column (--split-col)", "split_values")
    labels = row_labels(file, options, (image, group, split, fold), part=part is not None)
    found, named, kept, left_out = _located(file, image, labels, options, base or root, root, locate)
    images = [one for one, used in zip(found.images, kept[named], strict=True) if one is not None and used]
    notes = (*file.notes[noted:], *found.notes, *labels.notes)
    file, labels = file.take(kept), labels.take(kept)

    frame = file.typed.iloc[:, :0].copy()
    frame["image"] = images
    frame["group"], groups = _groups(file, group, images, root, single=options.blank_groups == "single")
    splits, split_from = (
        split_column(file, split, split_values(options.split_values))
        if split
        else ([""] * len(file), NO_SPLIT)
    )
    frame["split"] = splits
    if fold:
        frame[FOLD_COLUMN] = fold_cells(file, fold, splits)
        notes = (*notes, folds_in_words(frame[FOLD_COLUMN].tolist()))
    frame = frame.astype(object)
    taken = {image, group, split, fold or options.fold_col, *labels.columns}
    carried: dict[str, pd.Series] = {}
    for column in file.columns:
        if column not in taken:
            name = column
            while (
                name in (*COLUMNS, *RESERVED) or name in carried or (name != column and name in file.columns)
            ):
                name = f"csv_{name}"
            carried[name] = file.typed[column]
    if carried:
        notes = (*notes, f"{counted(len(carried), 'other column')} kept: {sample_of(list(carried), most=6)}")
    joined = join_rows(
        frame.assign(**carried),
        labels.present,
        labels.unknown,
        file.text(reader) if reader else None,
        how=options.join_rows,
        multi_label=options.multi_label,
        skip=options.missing == "skip",
        path=path,
    )
    frame = joined.frame
    frame.insert(
        1, "label", [join_classes(one) if options.multi_label else min(one) for one in joined.present]
    )
    if any(joined.unknown):
        frame[UNKNOWN_COLUMN] = [join_classes(one) for one in joined.unknown]
    first = [name for name in (*COLUMNS, *RESERVED) if name in frame]
    frame = frame[[*first, *(name for name in frame if name not in first)]]
    reading = SourceReading(
        f"{labels.reading} of {path.name}",
        groups,
        split_from,
        (*blank_rows, *left_out, *joined.left_out, *other_tables),
        notes=(*notes, *joined.notes),
    )
    return frame, reading, found.others


def _located(
    file: TableFile,
    image: str,
    labels: RowLabels,
    options: ReadOptions,
    base: Path,
    root: Path,
    locate: Callable[[Sequence[str]], list[str]] | None,
) -> tuple[LocatedImages, BoolArray, BoolArray, tuple[str, ...]]:
    """The files of the rows with an entry; masks (R,) of these rows and of those with a file and a label; what is left out."""
    skip = options.missing == "skip"
    entries = file.text(image)
    unnamed = np.array([entry in MISSING for entry in entries], dtype=np.bool_)
    for role, mask, columns in (("image", unnamed, (image,)), ("label", labels.missing, labels.columns)):
        if mask.any() and not skip:
            where = f"column {columns[0]!r}" if len(columns) == 1 else ", ".join(columns)
            raise DataError(
                f"{mask.sum()} of {len(file)} rows of {file.path} have no {role} in {where} "
                f"({file.rows(np.flatnonzero(mask).tolist())}); fill them in or remove the rows, or leave them out with "
                f"--missing skip"
            )
    # Rows without a label name their images too.
    named = [entry for entry, without in zip(entries, unnamed, strict=True) if not without]
    found = (
        LocatedImages(tuple(locate(named)))
        if locate
        else locate_images(named, base, root, file.path, skip=skip, volumes=options.slices is not None)
    )
    absent = np.zeros(len(file), dtype=np.bool_)
    absent[~unnamed] = [one is None for one in found.images]
    kept = ~(unnamed | labels.missing | absent)
    if not kept.any():
        raise DataError(f"expected rows with an image and a label in {file.path}, but there is none")
    counts = (
        (int(unnamed.sum()), "without an image"),
        (int((labels.missing & ~unnamed).sum()), "without a label"),
        (int((absent & ~labels.missing).sum()), "whose image file is absent"),
    )
    left_out = tuple(f"{counted(count, 'row')} {what}" for count, what in counts if count)
    return found, ~unnamed, kept, left_out


def _groups(
    file: TableFile, column: str | None, images: list[str], root: Path, *, single: bool
) -> tuple[list[str], str]:
    """R groups, and where they are from."""
    if column is None:
        return _default_groups(images, root)
    if not single:
        advice = "or let each be a group of its own with --blank-groups single"
        return list(map(whole_number, filled(file, column, "group", advice))), f"column {column!r}"
    values = list(map(whole_number, file.text(column)))
    blank = sum(value in MISSING for value in values)
    named = [image if value in MISSING else value for image, value in zip(images, values, strict=True)]
    return named, f"column {column!r}" + (
        f"; {counted(blank, 'row without one is a group of its own', 'rows without one are groups of their own')}"
        if blank
        else ""
    )


def _default_groups(images: list[str], root: Path) -> tuple[list[str], str]:
    """Default groups, and where they are from: the patient of a DICOM file, else each image by itself."""
    if not all(image.lower().endswith(DICOM_SUFFIXES) for image in images):
        return images, NO_GROUPS
    from tametail.data.readers.dicom_headers import DICOM_GROUPS, patient_codes

    return patient_codes([root / image for image in images]), DICOM_GROUPS
