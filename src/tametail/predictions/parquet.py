"""Parquet files of predictions: one column per class and quantity, the kind of table in the metadata.

Shape legend: N images, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError
from tametail.core.json_file import parse_json
from tametail.core.parquet_file import open_parquet

LOGIT, POSTERIOR = "logit_", "p_"


def write_parquet(columns: Mapping[str, object], described: Mapping[str, Any], path: Path) -> None:
    """Write columns as Parquet; lists are text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    as_arrow = {
        name: pa.array(values, pa.string()) if isinstance(values, list) else values
        for name, values in columns.items()
    }
    table = pa.table(as_arrow).replace_schema_metadata({"tametail": json.dumps(described)})
    pq.write_table(table, path, write_page_checksum=True)


@contextmanager
def reading_predictions(path: Path, kind: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Read the Arrow table of one file and its metadata, if it is of this kind.

    Args:
        kind: ``single_label`` or ``multi_label``; files without a kind are ``single_label``.

    Raises:
        DataError: the file is absent, no such table, or damaged; also if an error is raised in the block.
    """
    import pyarrow as pa

    try:
        with open_parquet(path) as file:
            table = file.read()
        table.validate(full=True)  # otherwise text that is not UTF-8 would fail only on use
        if any(column.null_count for column in table.columns):
            raise ValueError("values are missing")
        described = parse_json((table.schema.metadata or {})[b"tametail"].decode("utf-8"))
        found = described.get("kind", "single_label") if isinstance(described, dict) else None
        if found != kind:
            raise ValueError(f"expected kind {kind}, found {found}")
        yield table, described
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
) -> dict[str, object]:
    """Columns ``<prefix><class>`` of matrices (N, C) by their prefix; None has no columns."""
    return {
        prefix + name: np.ascontiguousarray(values[:, c])
        for c, name in enumerate(class_names)
        for prefix, values in matrices.items()
        if values is not None
    }


def read_matrix(table: Any, prefix: str, class_names: Sequence[str]) -> NDArray[Any] | None:
    """Matrix (N, C) of the columns ``<prefix><class>``; None if there are none."""
    if prefix + class_names[0] not in table.column_names:
        return None
    return np.stack([table[prefix + name].to_numpy() for name in class_names], axis=1)


def read_texts(table: Any, column: str) -> NDArray[np.str_]:
    """Text column (N,)."""
    return np.array(table[column].to_pylist(), dtype=np.str_)
