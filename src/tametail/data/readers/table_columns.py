"""The columns of a table by their role: image, label, group, split. Errors name the columns that are there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES
from tametail.data.readers.reader import ReadOptions
from tametail.data.readers.table_file import IMAGE_COLUMNS, TableFile

MISSING = {"", "nan", "NaN", "NAN", "<NA>", "#N/A"}  # "None" and "NA" may be names of classes


def image_column(file: TableFile, options: ReadOptions) -> str:
    """The column of image entries.

    Raises:
        DataError: it is not found, or its name looks like an image: the table has no header.
    """
    column = None
    if options.image_col is None and find_column(file, "image", None) is None:
        named = [column for column in file.columns if column.lower() in IMAGE_COLUMNS]
        column = named[0] if len(named) == 1 else None
    column = column or required_column(file, "image", options.image_col)
    if options.header and _is_like_its_cells(file, column):
        raise DataError(_no_header(file))
    return column


def find_column(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str | None:
    """The column of a role; None where it is absent and was not named."""
    wanted = named or role
    if wanted in file.columns:
        return wanted
    found = [column for column in file.columns if column.lower() == wanted.lower()]
    if len(found) > 1:
        several = ", ".join(found)
        raise DataError(f"{file.path} has several columns for {role}: {several}; name one with --{role}-col")
    if not found and named is not None:
        raise DataError(no_column(role, named, file, flag))
    return found[0] if found else None


def required_column(file: TableFile, role: str, named: str | None, flag: str | None = None) -> str:
    """The column of a role, or a `DataError` that says which columns there are."""
    column = find_column(file, role, named, flag)
    if column is None:
        raise DataError(no_column(role, named, file, flag))
    return column


def no_column(role: str, named: str | None, file: TableFile, flag: str | None = None) -> str:
    """What to say where a column is not found."""
    if any(_is_like_its_cells(file, column) for column in file.columns):
        return _no_header(file)
    return (
        f"expected a column {named or role!r} for the {role} in {file.path}, found {sample_of(file.columns, most=40)}; "
        f"{'name one with' if named is None else 'correct'} {flag or f'--{role}-col'}"
    )


def filled(file: TableFile, column: str, role: str, advice: str) -> list[str]:
    """One column as text, without empty cells.

    Args:
        advice: what to do other than to fill them in.

    Raises:
        DataError: a cell is empty.
    """
    values = file.text(column)
    empty = [row for row, value in enumerate(values) if value in MISSING]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(values)} rows of {file.path} have no {role} in column {column!r} "
            f"({file.rows(empty)}); fill them in or remove the rows, {advice}"
        )
    return values


def _no_header(file: TableFile) -> str:
    names = file.columns
    images = next((at for at, name in enumerate(names) if _is_like_its_cells(file, name)), 0)
    label = next((at for at in range(len(names)) if at != images), 1)
    return (
        f"expected the names of the columns in the first row of {file.path}, but it looks like data "
        f"({sample_of(names, most=4)}); if it is, give --no-header and the columns by their position: "
        f"--no-header --image-col {images + 1} --label-col {label + 1}"
    )


def _is_like_its_cells(file: TableFile, name: str) -> bool:
    """Whether the name of a column is an image file, or a code like those below it: ``IDRiD_001`` over ``IDRiD_002``."""
    if PurePath(name).suffix.lower() in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES):
        return True
    if not re.search(r"[^\W\d]", name) or not re.search(r"\d\d", name):
        return False
    cells: Sequence[str] = [str(cell).strip() for cell in file.cells(name)[:50]]
    return all(_pattern(cell) == _pattern(name) for cell in cells) and len(set(cells)) > 1


def _pattern(text: str) -> str:
    return re.sub(r"\d", "0", text)
