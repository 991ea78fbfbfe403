"""Tables of labelled images: a file → columns image, label, group, split, and all others as they are.

Labels are in a column of class names, in a column of several names each, or in one column per class. Errors name the
rows, columns and values that are wrong. Shape legend: R rows, C classes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.arrays import BoolArray
from tametail.core.errors import DataError
from tametail.core.text import quoted, sample_of
from tametail.data.readers.image_entries import DICOM_SUFFIXES, locate_images
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.table_file import IMAGE_COLUMNS, TABLE_SUFFIXES, TableFile, read_table_file
from tametail.data.reading import NO_GROUPS, NO_SPLIT, SourceReading
from tametail.data.table import COLUMNS, LABEL_SEPARATOR, SPLIT_WORDS, ImageTable, join_classes

if TYPE_CHECKING:
    import pandas as pd

MISSING = {"", "nan", "NaN", "NAN", "<NA>", "#N/A"}  # "None" and "NA" may be names of classes
_ONE = {"1", "1.0", "true"}
_ZERO = {"0", "0.0", "false"}


@register_reader
class TableReader(Reader):
    """Reads a CSV, TSV, Parquet or JSON Lines file."""

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
    """Read a table of images below ``root``.

    Args:
        path: CSV, TSV, Parquet or JSON Lines file.
        options: which columns are image, label, group and split; None for the column of that name (in any case).
            Group and split are optional: by default the group is the image (of DICOM the patient) and the split empty.
        base: folder that the image entries are relative to, ``root`` by default.
        locate: finds the images in another way: N entries → N ids.

    Returns:
        Columns image (POSIX path of an existing file, relative to ``root``), label, group, split (train, val, test or
        empty), then all others, as numbers where every cell is one, else as written; one row per image. And how they were
        read.

    Raises:
        DataError: the file, a column, a cell or an image is missing, or rows contradict each other.
    """
    file = read_table_file(path)
    image = _image_column(file, options)
    group = _find_column(file, "group", options.group_col)
    split = _find_column(file, "split", options.split_col)
    labels, label_columns, classes = _labels(file, options, (image, group, split))
    check_class_names(labels)

    entries = _filled(file, image, "image")
    frame = file.typed.iloc[:, :0].copy()
    frame["image"] = locate(entries) if locate else locate_images(entries, base or root, root, path)
    frame["label"] = labels
    images = frame["image"].tolist()
    frame["group"], groups = (
        (_filled(file, group, "group"), f"column {group!r}") if group else _default_groups(images, root)
    )
    frame["split"] = _splits(file.text(split), path) if split else ""
    frame = frame[list(COLUMNS)].astype(object)
    taken = {image, group, split, *label_columns}
    carried: dict[str, pd.Series] = {}
    for column in file.columns:
        if column not in taken:
            name = column
            while name in COLUMNS or name in carried or (name != column and name in file.columns):
                name = f"csv_{name}"
            carried[name] = file.typed[column]
    reading = SourceReading(
        f"{classes} of {path.name}", groups, NO_SPLIT if split is None else f"column {split!r}", ()
    )
    kept = _without_duplicates(frame.assign(**carried), path)
    repeated = len(frame) - len(kept)
    return kept, reading.without(f"{repeated:,} repeated rows" if repeated else "")


def _default_groups(images: list[str], root: Path) -> tuple[list[str], str]:
    """Default groups, and where they are from: the patient of a DICOM file, else each image by itself."""
    if not all(image.lower().endswith(DICOM_SUFFIXES) for image in images):
        return images, NO_GROUPS
    from tametail.data.readers.dicom_headers import DICOM_GROUPS, patient_codes

    return patient_codes([root / image for image in images]), DICOM_GROUPS


def _image_column(file: TableFile, options: ReadOptions) -> str:
    if options.image_col is None and _find_column(file, "image", None) is None:
        named = [column for column in file.columns if column.lower() in IMAGE_COLUMNS]
        if len(named) == 1:
            return named[0]
    return _required_column(file, "image", options.image_col)


def _labels(
    file: TableFile, options: ReadOptions, others: Sequence[str | None]
) -> tuple[list[str], list[str], str]:
    """R labels, the columns they are from, and how they were read."""
    if options.label_cols:
        columns = [_required_column(file, "label", column, "--label-cols") for column in options.label_cols]
        labels = one_hot_labels(file, columns, multi_label=options.multi_label)
        return labels, columns, f"columns of 0 and 1 {sample_of(columns, most=4)}"
    column = _find_column(file, "label", options.label_col)
    if column is None:
        proposed = ",".join(proposed_one_hot(file, others))
        hint = (
            f", or, as these look like one column per class, give --label-cols {proposed}" if proposed else ""
        )
        raise DataError(_no_column("label", None, file) + hint)
    if options.multi_label:
        labels, separator = split_labels(file, column)
        return labels, [column], f"column {column!r} ({separator})"
    return _filled(file, column, "label"), [column], f"column {column!r}"


def _find_column(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str | None:
    """The column of a role; None where it is absent and was not named."""
    wanted = named or role
    if wanted in file.columns:
        return wanted
    found = [column for column in file.columns if column.lower() == wanted.lower()]
    if len(found) > 1:
        several = ", ".join(found)
        raise DataError(f"{file.path} has several columns for {role}: {several}; name one with --{role}-col")
    if not found and named is not None:
        raise DataError(_no_column(role, named, file, flag))
    return found[0] if found else None


def _required_column(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str:
    column = _find_column(file, role, named, flag)
    if column is None:
        raise DataError(_no_column(role, named, file, flag))
    return column


def _no_column(role: str, named: str | None, file: TableFile, flag: str | None = None) -> str:
    return (
        f"expected a column {named or role!r} for the {role} in {file.path}, found {sample_of(file.columns, most=40)}; "
        f"name one with {flag or f'--{role}-col'}"
    )


def _filled(file: TableFile, column: str, role: str) -> list[str]:
    """One column as text, without empty cells."""
    values = file.text(column)
    empty = [row for row, value in enumerate(values, start=1) if value in MISSING]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(values)} rows of {file.path} have no {role} in column {column!r} "
            f"(rows {sample_of(empty)}{file.rows_are}); fill them in or remove the rows"
        )
    return values


def _splits(values: Sequence[str], path: Path) -> list[str]:
    words = ["" if value in MISSING else value.lower() for value in values]
    unknown = sorted(set(words) - set(SPLIT_WORDS))
    if unknown:
        found = sample_of(unknown)
        raise DataError(f"expected train, val, test or nothing in the split column of {path}, found {found}")
    return [SPLIT_WORDS[word] for word in words]


def _without_duplicates(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    frame = frame.drop_duplicates(ignore_index=True)
    repeated = frame[frame["image"].duplicated(keep=False)]
    if len(repeated):
        images = sorted(set(repeated["image"]))
        rows = repeated[repeated["image"] == images[0]]
        differing = [str(column) for column in rows if rows[column].nunique(dropna=False) > 1]
        raise DataError(
            f"{len(images)} images are listed in {path} more than once with different values ({sample_of(images)}; the first "
            f"differs in {', '.join(differing)}); keep one row per image"
        )
    return frame


def split_labels(file: TableFile, column: str) -> tuple[list[str], str]:
    """Multi-labels of one column, in the form of `ImageTable`, and how they were read.

    An empty cell is an image without a class.

    Lists (JSON Lines, Parquet) are used as they are. Text is split at the first of ``|``, ``;``, ``,`` that occurs in the
    column, so that class names may contain the later ones.

    Raises:
        DataError: a class name contains ``|``, or no row has a class.
    """
    cells: list[Any] = file.cells(column)
    texts = [cell for cell in cells if isinstance(cell, str)]
    separator = next((mark for mark in "|;," if any(mark in text for text in texts)), LABEL_SEPARATOR)
    labels = [_names(cell, separator) for cell in cells]
    invalid = sorted({name for names in labels for name in names if LABEL_SEPARATOR in name})
    if invalid:
        raise DataError(
            f"expected class names without {LABEL_SEPARATOR!r} in column {column!r} of {file.path}, found "
            f"{sample_of(invalid)}; rename them"
        )
    if not any(labels):
        raise DataError(f"expected classes in column {column!r} of {file.path}, but every cell is empty")
    written = "several labels, as lists" if not texts else f"several labels, separated by {separator!r}"
    return [join_classes(names) for names in labels], written


def _names(cell: object, separator: str) -> list[str]:
    if isinstance(cell, str):
        parts: Sequence[object] = cell.split(separator)
    else:
        parts = cell if isinstance(cell, list) else [cell]
    names = ["" if part is None or part != part else str(part).strip() for part in parts]
    return [name for name in names if name not in MISSING]


def one_hot_labels(file: TableFile, columns: Sequence[str], *, multi_label: bool) -> list[str]:
    """Labels of one column of 0 and 1 per class, as of ISIC; the columns are named after the classes.

    Returns:
        R labels: the column with the 1, or with ``multi_label`` all such columns joined, empty for none.

    Raises:
        DataError: a cell is neither 0 nor 1, or without ``multi_label`` a row does not have exactly one 1.
    """
    ones = np.stack([_ones(file, column) for column in columns], axis=1)  # (R, C)
    if empty := ", ".join(compress(columns, ones.sum(axis=0) == 0)):
        logging.getLogger(__name__).warning("%s: no image has the class %s; it is ignored", file.path, empty)
    if multi_label and any(LABEL_SEPARATOR in column for column in columns):
        raise DataError(
            f"expected column names without {LABEL_SEPARATOR!r}, got {sample_of(columns, most=20)}"
        )
    if multi_label:
        return [join_classes(compress(columns, row)) for row in ones]
    per_row = ones.sum(axis=1)
    wrong = np.flatnonzero(per_row != 1)
    if len(wrong):
        none, several = int((per_row == 0).sum()), int((per_row > 1).sum())
        raise DataError(
            f"expected exactly one 1 in {', '.join(columns)} in every row of {file.path}, but {none} rows have none and "
            f"{several} have several (rows {sample_of((wrong + 1).tolist())}{file.rows_are}); fix them, or use --multi-label for "
            f"images with several classes or none"
        )
    return [columns[code] for code in ones.argmax(axis=1)]


def _ones(file: TableFile, column: str) -> BoolArray:
    cells = [text.lower() for text in file.text(column)]
    wrong = [row for row, cell in enumerate(cells, start=1) if cell not in _ONE and cell not in _ZERO]
    if wrong:
        raise DataError(
            f"expected 0 or 1 in every row of column {column!r} of {file.path}, found {quoted(repr(cells[wrong[0] - 1]))} "
            f"in row {wrong[0]}{file.rows_are} ({len(wrong)} such rows)"
        )
    return np.array([cell in _ONE for cell in cells], dtype=np.bool_)


def proposed_one_hot(file: TableFile, taken: Sequence[str | None]) -> list[str]:
    """Columns other than ``taken`` that look like one class each: 0 and 1, with one 1 in every row."""
    binary: dict[str, BoolArray] = {}
    for column in file.columns:
        values = file.typed[column]
        if column not in taken and values.dtype.kind in "biuf" and values.isin([0, 1]).all():
            binary[column] = values.to_numpy() == 1
    if len(binary) < 2:
        return []
    per_row = np.sum(list(binary.values()), axis=0)
    return list(binary) if (per_row == 1).all() else []


def check_class_names(labels: Sequence[str], most: int = 200) -> None:
    """Check the length of class names, which are used in tables, plots and file names.

    Raises:
        DataError: a label is longer than ``most`` characters.
    """
    long = [label for label in Counter(labels) if len(label) > most]
    if long:
        raise DataError(
            f"expected class names, found {len(long)} labels of more than {most} characters "
            f"({sample_of(long, most=1)}); if this is not the label column, name it with --label-col"
        )
