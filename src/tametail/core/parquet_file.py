"""Read Parquet files of results: exactly one regular file, whose number of values fits its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.core.regular_file import regular

if TYPE_CHECKING:
    import pandas as pd

# A few bytes can claim billions of equal values, for which memory is taken when they are read.
_MOST_VALUES, _VALUES_PER_BYTE = 5_000_000, 50
_MOST_ROW_GROUPS = 100_000


@contextmanager
def open_parquet(path: Path, buffer_size: int = 0) -> Iterator[Any]:
    """Open a file as a `pyarrow.parquet.ParquetFile`, after a check of the numbers of its values and row groups.

    Args:
        buffer_size: bytes of a column that are read at once; 0 for all of a row group.

    Raises:
        OSError, ValueError: it cannot be read, or claims more values than a file of its size holds; so does the block.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Exactly one file: pq.read_table would also take a folder of them.
        with pq.ParquetFile(regular(path), page_checksum_verification=True, buffer_size=buffer_size) as file:
            size, claimed = path.stat().st_size, file.metadata
            values, most = claimed.num_rows * claimed.num_columns, _MOST_VALUES + _VALUES_PER_BYTE * size
            if not 0 <= values <= most or claimed.num_row_groups > _MOST_ROW_GROUPS:
                raise ValueError(
                    f"expected at most {most:,} values in {size:,} bytes, found {claimed.num_rows:,} rows of {claimed.num_columns:,} columns"
                )
            yield file
    except (pa.ArrowException, MemoryError, OverflowError) as error:
        raise ValueError(str(error).strip()) from error


def read_frame(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table with these columns, or all of them; an `OSError` or `ValueError` as `open_parquet` raises them."""

    with open_parquet(path) as file:
        if columns is not None and (absent := set(columns) - set(file.schema_arrow.names)):
            raise ValueError(f"it has no column {', '.join(sorted(absent))}")
        table = file.read(columns, use_pandas_metadata=True)
        table.validate(full=True)  # otherwise text that is not UTF-8 would fail only on use
        try:
            frame: pd.DataFrame = table.to_pandas()
        except (
            TypeError,
            KeyError,
            AttributeError,
            IndexError,
            RecursionError,
        ) as error:  # metadata of pandas that do not fit the table
            raise ValueError(f"its metadata do not fit it: {error!r}") from error
        return frame
