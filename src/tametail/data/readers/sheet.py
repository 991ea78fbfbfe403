"""Excel sheets as text, by openpyxl."""

from __future__ import annotations

import csv
import datetime
import io
import warnings
from pathlib import Path

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import quoted, sample_of

_INSTALL = "pip install 'tametail[tables]'"


def sheet_as_csv(path: Path) -> tuple[str, tuple[str, ...]]:
    """The first sheet of a workbook that is not empty, as CSV, with a note if there are several.

    Formulas count as the values that were saved with them.

    Raises:
        DataError: openpyxl is absent, the file is of an older or another format, or it cannot be read.
    """
    if path.suffix.lower() in {".xls", ".ods"}:
        raise DataError(
            f"expected a table as .csv or .xlsx, got {path}; open it and save it as one of these (Save As)"
        )
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(f"reading {path} needs openpyxl: {_INSTALL}, or save it as .csv") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about styles, which are not read
            book = openpyxl.load_workbook(regular(path), read_only=True, data_only=True)
    except Exception as error:  # openpyxl passes on whatever zipfile and its XML parser raise
        raise DataError(f"{path} cannot be read as an Excel file: {quoted(error)}") from error
    texts = {}
    for sheet in book.worksheets:
        text = io.StringIO(newline="")
        rows = [[_written(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
        while rows and not any(rows[0]):  # a title is often set apart by blank rows
            rows.pop(0)
        if rows:
            csv.writer(text).writerows(rows)
            texts[sheet.title] = text.getvalue()
    book.close()
    if not texts:
        raise DataError(f"expected a table with the columns image and label in {path}, but it is empty")
    first, *others = texts
    notes = (f"sheets {sample_of(others)} of {path.name} (the first, {first}, is read)",) if others else ()
    return texts[first], notes


def _written(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return str(cell)
