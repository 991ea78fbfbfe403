"""CSV, TSV, Excel, Parquet and JSON Lines files → named columns, with cells as written and as typed by pandas."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.arrays import BoolArray
from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import counted, quoted, sample_of
from tametail.data.readers.delimited import BLANKS, fields, find_separator

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = ("image", "file_name")  # the second as of Hugging Face

DELIMITED_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")
JSONL_SUFFIXES = (".jsonl", ".ndjson")
SHEET_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods")  # the last two are refused with what to do
# Numbers and missing values as programs write them.
_NUMBER = r"-?(0|[1-9]\d*)(\.\d+)?|[nN][aA][nN]|NA|N/A|null"
_WHOLE = re.compile(r"-?\d+\.0+")
TABLE_SUFFIXES = (*DELIMITED_SUFFIXES, *PARQUET_SUFFIXES, *JSONL_SUFFIXES, *SHEET_SUFFIXES)


@dataclass(frozen=True, eq=False)
class TableFile:
    """R rows of a file.

    Attributes:
        path: the file.
        typed: R rows as typed by pandas, with column names stripped of blanks; nested values are JSON text, so that rows
            can be compared.
        cells: column name → R cells as written: text for a CSV; numbers, text, lists or None for the others.
        rows_are: text after row numbers in messages.
        numbers: R row numbers in the file, which count from 1.
        notes: what was left out or chosen when the file was read.
    """

    path: Path
    typed: pd.DataFrame
    cells: Callable[[str], list[Any]]
    rows_are: str = ""
    numbers: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.typed)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that have a name."""
        return [name for name in self.typed.columns.tolist() if name and not name.startswith("Unnamed:")]

    def take(self, rows: BoolArray, *notes: str) -> TableFile:
        """The rows of a mask (R,), with further notes."""
        chosen = np.flatnonzero(rows).tolist()

        def cells(column: str) -> list[Any]:
            every = self.cells(column)
            return [every[row] for row in chosen]

        return replace(
            self,
            typed=self.typed.iloc[chosen].reset_index(drop=True),
            cells=cells,
            numbers=tuple(self.numbers[row] for row in chosen),
            notes=(*self.notes, *notes),
        )

    def rows(self, wrong: Sequence[int]) -> str:
        """The numbers of some rows (positions from 0), for messages."""
        return f"rows {sample_of([self.numbers[row] for row in wrong])}{self.rows_are}"

    def text(self, column: str) -> list[str]:
        """R cells as stripped text; empty if missing.

        Raises:
            DataError: the cells are lists, records or bytes.
        """
        return as_texts(self.cells(column), column, self.path, self.numbers)


def as_texts(cells: Sequence[Any], column: str, path: Path, numbers: Sequence[int]) -> list[str]:
    """Cells of a column as stripped text; empty if missing.

    Args:
        numbers: row numbers in the file, for the message.

    Raises:
        DataError: the cells are lists, records or bytes.
    """
    nested = [row for row, cell in enumerate(cells) if isinstance(cell, (list, dict, bytes))]
    if nested:
        raise DataError(
            f"expected text or numbers in column {column!r} of {path}, found {quoted(cells[nested[0]])} in "
            f"row {numbers[nested[0]]}; for images with several classes each use --multi-label"
        )
    return [cell.strip() if isinstance(cell, str) else _written(cell) for cell in cells]


def _written(cell: object) -> str:
    is_missing = cell is None or cell != cell  # only NaN differs from itself
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))  # a column of whole numbers with a blank is stored as floats
    return "" if is_missing else str(cell).strip()


def whole_number(text: str) -> str:
    """A label, group or fold without the zero decimals of a whole number: ``1.0`` → ``1``, as other tables may write it."""
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text


def read_table_file(path: Path, *, header: bool = True) -> TableFile:
    """Read a table in the format of its extension; unknown extensions are read as delimited text.

    Wholly blank rows are no rows.

    Args:
        header: whether the first row of delimited text or of a sheet holds the names of the columns; otherwise they are
            ``1``, ``2``, ...

    Raises:
        DataError: the file cannot be read, is not of its format, has no rows or two columns with one name, or contains
            the images themselves.
    """
    suffix = path.suffix.lower()
    if suffix in SHEET_SUFFIXES:
        from tametail.data.readers.sheet import sheet_as_csv

        text, notes = sheet_as_csv(path)
        return _without_blank_rows(_parse_delimited(text, ",", path, header=header), notes)
    if suffix not in (*PARQUET_SUFFIXES, *JSONL_SUFFIXES):
        text = read_text(path, "a CSV file")
        return _without_blank_rows(
            _parse_delimited(text, find_separator(text, path), path, header=header), ()
        )
    if not header:
        raise DataError(f"{path} names its columns itself; leave --no-header out")
    return _without_blank_rows(
        _read_parquet(path) if suffix in PARQUET_SUFFIXES else _read_json_lines(path), ()
    )


def _without_blank_rows(file: TableFile, notes: Sequence[str]) -> TableFile:
    """The rows that are not wholly blank; delimited text has none any more, unless all are."""
    numbers = file.numbers or tuple(range(1, len(file) + 1))
    blank: BoolArray = np.asarray(file.typed[file.columns].isna().to_numpy().all(axis=1))
    if blank.all():
        raise DataError(f"expected at least one row per image in {file.path}, but every row is blank")
    file = replace(file, numbers=numbers, notes=(*notes, *file.notes))
    return file.take(~blank, *_blank_rows(int(blank.sum()), file.path))


def _blank_rows(count: int, path: Path) -> tuple[str, ...]:
    return (f"{counted(count, 'blank row')} of {path.name}",) if count else ()


def _parse_delimited(text: str, separator: str, path: Path, *, header: bool) -> TableFile:
    import pandas as pd

    try:
        rows = fields(text, separator)
        # From the header itself, as pandas renames the second of two equal names.
        written = next(rows, []) if header else []
        options: dict[str, Any] = {"sep": r"\s+" if separator == BLANKS else separator, "index_col": False}
        if not header:
            options |= {
                "header": None,
                "names": [str(at + 1) for at in range(max(map(len, rows), default=0))],
            }
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            raw = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, **options)
            typed = pd.read_csv(io.StringIO(text), low_memory=False, **options)
    except pd.errors.EmptyDataError as error:
        message = f"expected a table with the columns image and label in {path}, but it is empty"
        raise DataError(message) from error
    except pd.errors.ParserWarning as error:
        message = f"{path} has rows with more fields than its header; quote the fields that hold commas"
        raise DataError(message) from error
    except (pd.errors.ParserError, csv.Error, ValueError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as CSV: {quoted(str(error).strip())}") from error
    if raw.empty:
        raise DataError(f"expected at least one row per image in {path}, but it has a header only")
    check_names([name.strip() for name in written if name.strip()], path)
    names = [str(column).strip() for column in raw.columns]
    check_names(names, path)
    raw.columns = typed.columns = pd.Index(names)
    raw = raw.fillna("")  # fields that short rows lack
    blank: BoolArray = np.asarray((raw.apply(lambda cells: cells.str.strip()) == "").all(axis=1))
    kept = np.arange(len(blank)) if blank.all() else np.flatnonzero(~blank)
    if len(kept) < len(blank):  # read again, as whole numbers with blanks are typed as others
        raw = raw.iloc[kept].reset_index(drop=True)
        typed = pd.read_csv(io.StringIO(raw.to_csv(index=False)), low_memory=False).set_axis(names, axis=1)
    typed = pd.DataFrame({name: _as_written(typed[name], raw[name]) for name in names})
    rows_are = " below the header" if header else ""
    return TableFile(
        path,
        typed,
        lambda column: raw[column].tolist(),
        rows_are,
        tuple((kept + 1).tolist()),
        _blank_rows(len(blank) - len(kept), path),
    )


def read_text(path: Path, kind: str) -> str:
    """The text of a file in UTF-8, UTF-16 or, said, Latin-1.

    Args:
        kind: what was expected, for the message.

    Raises:
        DataError: it cannot be read, or is not text.
    """
    with open(path, encoding=text_encoding(path, kind), newline="") as text:
        return text.read()


def text_encoding(path: Path, kind: str) -> str:
    """The encoding of a text file: UTF-8, UTF-16 or, said, Latin-1. Arguments and errors as for `read_text`."""
    try:
        with open(regular(path), "rb") as file:
            # Spreadsheets save "Unicode text" as UTF-16; other programs begin UTF-8 with a byte order mark.
            encoding = "utf-16" if file.read(2) in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
        try:
            is_text = _is_text(path, encoding)
        except UnicodeDecodeError:
            encoding = "latin-1"
            is_text = _is_text(path, encoding)
            logging.getLogger(__name__).warning("%s is not UTF-8; it was read as Latin-1", path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    if not is_text:
        raise DataError(f"expected {kind} at {path}, but it is not text")
    return encoding


def _is_text(path: Path, encoding: str) -> bool:
    with open(path, encoding=encoding, newline="") as text:
        return not any("\0" in block for block in iter(lambda: text.read(2**20), ""))


def _read_json_lines(path: Path) -> TableFile:
    import pandas as pd

    lines = enumerate(read_text(path, "a JSON Lines file").split("\n"), start=1)
    records = [_record(line, number, path) for number, line in lines if line.strip()]
    if not records:
        raise DataError(f"expected one JSON object per line with image and label in {path}, but it is empty")
    names = list(dict.fromkeys(name for record in records for name in record))
    check_names([name.strip() for name in names], path)
    columns = {name.strip(): [record.get(name) for record in records] for name in names}
    typed = pd.DataFrame({name: _comparable(cells) for name, cells in columns.items()})
    return TableFile(path, typed, lambda column: columns[column])


def _record(line: str, number: int, path: Path) -> dict[str, Any]:
    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name occurs twice in one object")
        return found

    try:
        record = json.loads(line, object_pairs_hook=object_of)
        if "\\ud" in line.lower():  # a lone surrogate, which cannot be written as UTF-8
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number} of {path} is not JSON ({error}); fix or remove the line") from error
    if not isinstance(record, dict):
        raise DataError(
            f"expected one JSON object per line in {path}, found {quoted(line.strip())} in line {number}; "
            f'write {{"image": ..., "label": ...}} in each line'
        )
    return record


def _comparable(cells: list[Any]) -> list[Any]:
    return [json.dumps(cell, default=str) if isinstance(cell, (list, dict)) else cell for cell in cells]


def _read_parquet(path: Path) -> TableFile:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(regular(path)) as file:
            refuse_image_bytes(file.schema_arrow, path)
            table = file.read()
        table.validate(full=True)  # otherwise text that is not UTF-8 would fail only on use
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {quoted(str(error).strip())}") from error
    named = [at for at, name in enumerate(table.column_names) if not name.startswith("__index_level_")]
    names = [table.column_names[at].strip() for at in named]
    check_names(names, path)
    if not table.num_rows:
        raise DataError(f"expected at least one row per image in {path}, but it has columns only")
    columns = {name: table.column(at) for name, at in zip(names, named, strict=True)}
    typed = pd.DataFrame({name: _typed(column) for name, column in columns.items()})
    return TableFile(path, typed, lambda column: columns[column].to_pylist())


def _as_written(typed: pd.Series, text: pd.Series) -> pd.Series:
    """A column as numbers if every cell is written as one: 007 and 7 are two patients, and NA may be a word."""
    known = text.str.strip() != ""
    numbers = typed.dtype.kind == "b" or (
        typed.dtype.kind in "iuf"
        and typed.notna().any()
        and bool(text[known].str.strip().str.fullmatch(_NUMBER).all())
    )
    return typed if numbers else text.where(known, None)


def _typed(column: Any) -> Any:
    """An Arrow column as typed by pandas, or as text if pandas cannot represent it (nested values, distant dates)."""
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        return _comparable(column.to_pylist())
    try:
        return column.to_pandas()
    except (pa.ArrowException, ValueError):
        return [str(cell) for cell in column.to_pylist()]


def image_bytes_column(schema: Any) -> str | None:
    """The column of an Arrow schema that holds images, as plain bytes or in a record of bytes and path; None if there is none."""
    import pyarrow as pa

    for field in schema:
        kind = field.type
        inside = {kind.field(at).name for at in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
        if "bytes" in inside or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return str(field.name)
    return None


def refuse_image_bytes(schema: Any, path: Path) -> None:
    """Refuse a table of images among tables of paths."""
    if (column := image_bytes_column(schema)) is not None:
        raise DataError(
            f"expected paths of image files in {path}, but column {column!r} holds the bytes of images; "
            f"give the file, or the folder of such files, by itself"
        )


def check_names(names: Sequence[str], path: Path) -> None:
    """Refuse two columns with one name."""
    if len(set(names)) < len(names):
        raise DataError(
            f"expected every column of {path} to have its own name, found {sample_of(names, most=20)}; rename one"
        )
