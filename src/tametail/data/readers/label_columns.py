"""Labels of a table: a column of class names, a column of several names each, or one column per class."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np

from tametail.core.arrays import BoolArray
from tametail.core.errors import DataError
from tametail.core.text import quoted, sample_of
from tametail.data.readers.table_file import TableFile
from tametail.data.table import LABEL_SEPARATOR, join_classes

MISSING = {"", "nan", "NaN", "NAN", "<NA>", "#N/A"}  # "None" and "NA" may be names of classes
_ONE = {"1", "1.0", "true"}
_ZERO = {"0", "0.0", "false"}


def split_labels(file: TableFile, column: str) -> list[str]:
    """Multi-labels of one column, in the form of `ImageTable`; an empty cell is an image without a class.

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
    return [join_classes(names) for names in labels]


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
    empty = [column for column, count in zip(columns, ones.sum(axis=0), strict=True) if not count]
    if empty:
        logging.getLogger(__name__).warning(
            "%s: no image has the class %s; it is ignored", file.path, ", ".join(empty)
        )
    if multi_label:
        if any(LABEL_SEPARATOR in column for column in columns):
            raise DataError(
                f"expected column names without {LABEL_SEPARATOR!r}, got {sample_of(columns, most=20)}"
            )
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
