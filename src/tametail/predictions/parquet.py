"""How a table of predictions lies on disk: one parquet file, its numbers by column and its kind in the metadata.

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

LOGIT, POSTERIOR = "logit_", "p_"


def write_parquet(columns: Mapping[str, object], described: Mapping[str, Any], path: Path) -> None:
    """Write columns as parquet; text as text, everything else as it is."""
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
    """The arrow table of one file and what it says of itself, if it is of this kind.

    Args:
        kind: ``single_label`` or ``multi_label``; files that do not say are ``single_label``.

    Raises:
        DataError: the file is absent, is no such table or is damaged, also as found while the content is used.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Exactly one file: pq.read_table would also take a folder of them.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        if any(column.null_count for column in table.columns):
            raise ValueError("values are missing")
        described = json.loads((table.schema.metadata or {})[b"tametail"])
        found = described.get("kind", "single_label") if isinstance(described, dict) else None
        if found != kind:
            raise ValueError(f"expected kind {kind}, found {found}")
        yield table, described
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"expected a table of predictions at {path}, but it cannot be read: {error}"
        ) from error


def read_metadata(path: Path) -> dict[str, Any] | None:
    """What a parquet file says of itself; None where it is not of this project, or no parquet at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        described = json.loads((pq.read_schema(path).metadata or {})[b"tametail"])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None
    return described if isinstance(described, dict) else None


def class_columns(
    class_names: Sequence[str], matrices: Mapping[str, NDArray[np.generic] | None]
) -> dict[str, object]:
    """The columns ``<prefix><class>`` of matrices (N, C) by their prefix, class by class; None has no columns."""
    return {
        prefix + name: np.ascontiguousarray(values[:, c])
        for c, name in enumerate(class_names)
        for prefix, values in matrices.items()
        if values is not None
    }


def read_matrix(table: Any, prefix: str, class_names: Sequence[str]) -> NDArray[Any] | None:
    """The matrix (N, C) of the columns ``<prefix><class>``; None where there are none."""
    if prefix + class_names[0] not in table.column_names:
        return None
    return np.stack([table[prefix + name].to_numpy() for name in class_names], axis=1)


def read_texts(table: Any, column: str) -> NDArray[np.str_]:
    """A column (N,) of text."""
    return np.array(table[column].to_pylist(), dtype=np.str_)
