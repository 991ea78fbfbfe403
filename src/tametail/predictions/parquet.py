"""Parquet files of predictions: one column per class and quantity, the kind of table in the metadata.

They are written and read by blocks of rows, so that a table is in memory once.
Shape legend: N images, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tametail.core.arrays import row_blocks
from tametail.core.errors import DataError
from tametail.core.json_file import parse_json
from tametail.core.parquet_file import open_parquet

LOGIT, POSTERIOR = "logit_", "p_"
GROUP_ROWS = 2**16  # of a row group
_BUFFER = (
    2**18
)  # bytes of a column that are read at once; otherwise it is the row group's, which may be all rows

Column = NDArray[Any] | list[str]


def write_parquet(columns: Mapping[str, Column], described: Mapping[str, Any], path: Path) -> None:
    """Write columns of N rows as Parquet; lists are text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def kind(values: Column) -> Any:
        return pa.string() if isinstance(values, list) else pa.from_numpy_dtype(values.dtype)

    schema = pa.schema([(name, kind(values)) for name, values in columns.items()])
    schema = schema.with_metadata({"tametail": json.dumps(described)})
    texts = [name for name, values in columns.items() if isinstance(values, list)]
    with pq.ParquetWriter(path, schema, use_dictionary=texts, write_page_checksum=True) as writer:
        for rows in row_blocks(len(next(iter(columns.values()))), GROUP_ROWS):
            of_block = [pa.array(values[rows], kind(values)) for values in columns.values()]
            writer.write_table(pa.table(of_block, schema=schema))


@contextmanager
def reading_predictions(path: Path, kind: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open one Parquet file with its metadata, if it is of this kind.

    Args:
        kind: ``single_label`` or ``multi_label``; files without a kind are ``single_label``.

    Raises:
        DataError: the file is absent, no such table, or damaged; also if an error is raised in the block.
    """
    import pyarrow as pa

    try:
        with open_parquet(path, buffer_size=_BUFFER) as file:
            described = parse_json((file.schema_arrow.metadata or {})[b"tametail"].decode("utf-8"))
            found = described.get("kind", "single_label") if isinstance(described, dict) else None
            if found != kind:
                raise ValueError(f"expected kind {kind}, found {found}")
            yield file, described
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"expected a table of predictions at {path}, but it cannot be read: {error}"
        ) from error


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Metadata of a Parquet file; None if it is not one of tametail."""
    try:
        with open_parquet(path) as file:
            described = parse_json((file.schema_arrow.metadata or {})[b"tametail"].decode("utf-8"))
    except (OSError, KeyError, ValueError):
        return None
    return described if isinstance(described, dict) else None


def columns_by_class(
    class_names: Sequence[str], matrices: Mapping[str, NDArray[np.generic] | None]
) -> dict[str, Column]:
    """Columns ``<prefix><class>`` of matrices (N, C) by their prefix; None has no columns."""
    return {
        prefix + name: values[:, c]
        for c, name in enumerate(class_names)
        for prefix, values in matrices.items()
        if values is not None
    }


def read_matrix(
    file: Any, prefix: str, class_names: Sequence[str], dtype: DTypeLike = np.float32
) -> NDArray[Any] | None:
    """Matrix (N, C) of the columns ``<prefix><class>`` of an open file; None if there are none.

    Raises:
        KeyError, ValueError: a column or a value is missing.
    """
    columns = [prefix + name for name in class_names]
    if columns[0] not in file.schema_arrow.names:
        return None
    found = np.empty((file.metadata.num_rows, len(columns)), dtype=dtype)
    for rows, block in _blocks(file, columns):
        found[rows] = np.stack([column.to_numpy(zero_copy_only=False) for column in block], axis=1)
    return found


def read_integers(file: Any, column: str) -> NDArray[np.int64]:
    """Column (N,) of integers of an open file; `KeyError` or `ValueError` if the column or a value is missing."""
    parts = [block.to_numpy() for _, (block,) in _blocks(file, [column])]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts]).astype(np.int64)


def read_texts(file: Any, column: str) -> list[str]:
    """Column (N,) of text of an open file; `KeyError` or `ValueError` if the column or a value is missing."""
    return [text for _, (block,) in _blocks(file, [column]) for text in block.to_pylist()]


def _blocks(file: Any, columns: Sequence[str]) -> Iterator[tuple[slice, list[Any]]]:
    """The columns of an open file by blocks of rows."""
    if lacking := set(columns) - set(file.schema_arrow.names):  # which iter_batches would leave out
        raise KeyError(min(lacking))
    start = 0
    for batch in file.iter_batches(columns=list(columns)):
        block = [batch.column(column) for column in columns]
        if any(column.null_count for column in block):
            raise ValueError("values are missing")
        yield slice(start, start + batch.num_rows), block
        start += batch.num_rows
