"""Tables that may be larger than memory: text as whole columns, numbers by blocks of rows.

Delimited text and Parquet are read by blocks; the other formats of `read_table_file` are read as a whole.
Shape legend: R rows, B rows of a block, K columns.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.arrays import BLOCK_ROWS, BoolArray, FloatArray
from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import quoted
from tametail.data.readers.delimited import BLANKS, find_separator
from tametail.data.readers.table_file import (
    DELIMITED_SUFFIXES,
    PARQUET_SUFFIXES,
    TABLE_SUFFIXES,
    TableFile,
    as_texts,
    check_names,
    read_table_file,
    refuse_image_bytes,
    text_encoding,
)

if TYPE_CHECKING:
    import pandas as pd

_HEAD = 1000  # lines that the separator is chosen by, of which blank ones do not count
_BUFFER = 2**18  # bytes of a Parquet column that are read at once; otherwise all of its row group
_BEYOND = "\0"  # a column for fields beyond the header
_TOO_MANY = re.compile(r"Expected \d+ fields in line (\d+)")


class TableBlocks(ABC):
    """R rows of a file, read anew on each call. Wholly blank rows are no rows.

    Attributes:
        path: the file.
        columns: names of the columns that have a name, stripped of blanks.
        rows_are: text after row numbers in messages.
    """

    def __init__(self, path: Path, columns: Sequence[str], rows_are: str = "") -> None:
        self.path, self.rows_are = path, rows_are
        self.columns = [name for name in columns if name and not name.startswith("Unnamed:")]

    def texts(self, columns: Sequence[str]) -> dict[str, list[str]]:
        """The R cells of each column as stripped text; empty if missing.

        Raises:
            DataError: the file cannot be read, has no rows, or cells are lists, records or bytes.
        """
        found: dict[str, list[str]] = {column: [] for column in columns}
        start = 0
        for block in self._read(columns, as_text=True):
            texts = [self._as_text(block[column], column, start) for column in columns]
            rows = len(texts[0])
            if all("" in of_column for of_column in texts):  # otherwise no row is blank
                kept = np.flatnonzero(~self._blank[start : start + rows]).tolist()
                texts = [[of_column[row] for row in kept] for of_column in texts]
            for column, of_column in zip(columns, texts, strict=True):
                found[column] += of_column
            start += rows
        return found

    def numbers(self, columns: Sequence[str]) -> Iterator[FloatArray]:
        """All rows of K columns in blocks (B, K), in order; nan where a cell is not a number.

        Raises:
            DataError: as for `texts`.
        """
        start = 0
        for block in self._read(columns, as_text=False):
            values = np.stack([self._as_number(block[column], column, start) for column in columns], axis=1)
            rows = len(values)
            if np.isnan(values).all(axis=1).any():
                values = values[~self._blank[start : start + rows]]
            start += rows
            yield values

    @cached_property
    def _blank(self) -> BoolArray:
        """Whether a row is wholly blank, counted with these rows."""
        blank = np.concatenate(list(self._blank_rows()))
        if blank.all():
            raise DataError(f"expected at least one row per image in {self.path}, but every row is blank")
        return blank

    @abstractmethod
    def _read(self, columns: Sequence[str], *, as_text: bool) -> Iterator[Mapping[str, Any]]:
        """Blocks of all rows, with the cells of each column; `DataError` if there are none."""

    @abstractmethod
    def _blank_rows(self) -> Iterator[BoolArray]:
        """For blocks of all rows, whether each is wholly blank."""

    @abstractmethod
    def _as_text(self, cells: Any, column: str, start: int) -> list[str]:
        """Cells of a block, from row ``start`` on, as stripped text."""

    @abstractmethod
    def _as_number(self, cells: Any, column: str, start: int) -> FloatArray:
        """Cells of a block, from row ``start`` on, as numbers."""


def read_table_blocks(path: Path) -> TableBlocks:
    """Open a table in the format of its extension, as `read_table_file` reads it.

    Raises:
        DataError: the file cannot be read, is not of its format, has two columns with one name, or contains images.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return _Parquet(path)
    if suffix in TABLE_SUFFIXES and suffix not in DELIMITED_SUFFIXES:
        return _Whole(read_table_file(path))
    return _Delimited(path)


def _as_numbers(texts: Sequence[str]) -> FloatArray:
    """Texts as numbers, nan where they are none."""
    return np.array([_number(text) for text in texts], dtype=np.float64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


class _Delimited(TableBlocks):
    """Delimited text with a header."""

    def __init__(self, path: Path) -> None:
        self._path, self._encoding = path, text_encoding(path, "a CSV file")
        with self._text() as text:
            separator = find_separator("".join(islice(text, _HEAD)), path)
        self._separator = r"\s+" if separator == BLANKS else separator
        with self._parser(dtype=str) as parser:
            header = [str(name).strip() for name in parser.get_chunk(1).iloc[0]]
        check_names([name for name in header if name], path)
        self._names = [name or f"Unnamed: {at}" for at, name in enumerate(header)]
        check_names(self._names, path)
        super().__init__(path, self._names, " below the header")

    def _text(self) -> Any:
        return open(self._path, encoding=self._encoding, newline="")

    @contextmanager
    def _parser(self, **options: Any) -> Iterator[Any]:
        import pandas as pd

        # Without na_filter a cell is as written, and missing fields of short rows are empty. With low_memory a column
        # of one block could have cells of several types.
        common: dict[str, Any] = {"header": None, "index_col": False, "na_filter": False, "low_memory": False}
        try:
            with (
                self._text() as text,
                pd.read_csv(text, sep=self._separator, iterator=True, **common, **options) as parser,
            ):
                yield parser
        except pd.errors.EmptyDataError as error:
            message = f"expected a table with the columns image and label in {self._path}, but it is empty"
            raise DataError(message) from error
        except (pd.errors.ParserError, OSError, ValueError, OverflowError) as error:
            if wide := _TOO_MANY.search(str(error)):
                raise self._too_wide(f"line {wide[1]}") from error
            raise DataError(f"{self._path} cannot be read as CSV: {quoted(str(error).strip())}") from error

    def _too_wide(self, where: str) -> DataError:
        return DataError(
            f"{self._path} has rows with more fields than its header ({where}); quote the fields that hold commas"
        )

    def _chunks(self, texts: Sequence[str]) -> Iterator[pd.DataFrame]:
        """All rows below the header, the cells of these columns as text."""
        options: dict[str, Any] = {"names": [*self._names, _BEYOND], "chunksize": BLOCK_ROWS}
        options["dtype"] = dict.fromkeys([*texts, _BEYOND], str)
        start = 0
        with self._parser(**options) as parser:
            parser.get_chunk(1)  # the header
            for chunk in parser:
                beyond = np.flatnonzero(chunk.pop(_BEYOND).to_numpy() != "")
                if len(beyond):
                    raise self._too_wide(f"row {start + beyond[0] + 1}{self.rows_are}")
                start += len(chunk)
                yield chunk
        if not start:
            raise DataError(f"expected at least one row per image in {self.path}, but it has a header only")

    def _read(self, columns: Sequence[str], *, as_text: bool) -> Iterator[Mapping[str, Any]]:
        return (
            {column: chunk[column] for column in columns}
            for chunk in self._chunks(columns if as_text else ())
        )

    def _blank_rows(self) -> Iterator[BoolArray]:
        for chunk in self._chunks(self._names):
            yield np.all([chunk[name].str.strip() == "" for name in self._names], axis=0)

    def _as_text(self, cells: pd.Series, column: str, start: int) -> list[str]:
        return [cell.strip() for cell in cells.tolist()]

    def _as_number(self, cells: pd.Series, column: str, start: int) -> FloatArray:
        if cells.dtype.kind in "iuf":
            return cells.to_numpy(dtype=np.float64)
        return _as_numbers([str(cell) for cell in cells.tolist()])


class _Parquet(TableBlocks):
    """A Parquet file of columns without images."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._file() as file:
            refuse_image_bytes(file.schema_arrow, path)
            names, self._rows = file.schema_arrow.names, file.metadata.num_rows
        stored = [name for name in names if not name.startswith("__index_level_")]
        check_names([name.strip() for name in stored], path)
        self._stored = {name.strip(): name for name in stored}
        super().__init__(path, list(self._stored))

    @contextmanager
    def _file(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(regular(self._path), buffer_size=_BUFFER) as file:
                yield file
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise DataError(
                f"{self._path} cannot be read as Parquet: {quoted(str(error).strip())}"
            ) from error

    def _read(self, columns: Sequence[str], *, as_text: bool = False) -> Iterator[Mapping[str, Any]]:
        if not self._rows:
            raise DataError(f"expected at least one row per image in {self.path}, but it has columns only")
        stored = [self._stored[column] for column in columns]
        with self._file() as file:
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=stored):
                batch.validate(full=True)  # otherwise text that is not UTF-8 would fail only on use
                yield {column: batch.column(name) for column, name in zip(columns, stored, strict=True)}

    def _blank_rows(self) -> Iterator[BoolArray]:
        for block in self._read(self.columns):
            yield np.all(
                [cells.is_null(nan_is_null=True).to_numpy(False) for cells in block.values()], axis=0
            )

    def _as_text(self, cells: Any, column: str, start: int) -> list[str]:
        import pyarrow as pa

        if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
            return [(cell or "").strip() for cell in cells.to_pylist()]
        return as_texts(cells.to_pylist(), column, self.path, range(start + 1, start + len(cells) + 1))

    def _as_number(self, cells: Any, column: str, start: int) -> FloatArray:
        import pyarrow as pa

        if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
            return np.asarray(cells.to_numpy(zero_copy_only=False), dtype=np.float64)
        return _as_numbers(self._as_text(cells, column, start))


class _Whole(TableBlocks):
    """A table in memory, as one block, without its blank rows."""

    def __init__(self, file: TableFile) -> None:
        super().__init__(file.path, file.columns, file.rows_are)
        self._file = file

    def _read(self, columns: Sequence[str], *, as_text: bool) -> Iterator[Mapping[str, Any]]:
        yield dict.fromkeys(columns)

    def _blank_rows(self) -> Iterator[BoolArray]:
        yield np.zeros(len(self._file), dtype=np.bool_)

    def _as_text(self, cells: None, column: str, start: int) -> list[str]:
        return self._file.text(column)

    def _as_number(self, cells: None, column: str, start: int) -> FloatArray:
        typed = self._file.typed[column]
        if typed.dtype.kind in "iuf":
            return np.asarray(typed.to_numpy(dtype=np.float64, na_value=np.nan))
        return _as_numbers(self._file.text(column))
