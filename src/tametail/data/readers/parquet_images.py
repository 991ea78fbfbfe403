"""Parquet files that hold the images themselves, as sets on the Hugging Face Hub → `ImageTable`, with the files in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import quoted
from tametail.data.decoding.cache import cache_dir
from tametail.data.decoding.cache_folder import cached_folder
from tametail.data.decoding.file_kinds import image_suffix
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.split_names import splits_of_files
from tametail.data.readers.table_file import PARQUET_SUFFIXES, image_bytes_column
from tametail.data.readers.table_folders import folder_name
from tametail.data.reading import NO_GROUPS, NO_SPLIT, SourceReading
from tametail.data.table import RESERVED, ImageTable

_MAX_IMAGE = 100 << 20  # bytes of one image
_MOST_ROWS = 2_000_000  # in a file: those of large sets have some thousands
_MOST_RATIO = 50  # of images to their compressed bytes: those of JPEG and PNG files have 1
_MOST_CELLS = 1 << 28  # bytes of all columns but the images, and of images of which the ratio is not checked
_BATCH = 64  # rows in memory at once
_PART = re.compile(r"(.+?)-\d+-of-\d+(?:-\w+)?")  # train-00000-of-00002


@register_reader
class ParquetImagesReader(Reader):
    """Reads a Parquet file with a column of image bytes, or a folder of such files (in it, in data/, or in train/ and test/)."""

    name = "parquet_images"
    priority = 5

    def matches(self, source: str | Path) -> bool:
        files = _files(Path(source).expanduser())
        return bool(files) and _image_column(files[0]) is not None

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        path = Path(source).expanduser()
        options.refuse(
            "the images and labels are in Parquet files",
            "image_col", "split_col", "image_root", "label_cols", "multi_label", "label_sep", "header", "metadata", "blank_groups",
            "join_rows", "reader_col", "split_values", "fold_col", "uncertain", "blank",
        )  # fmt: skip
        return read_parquet_images(_files(path), folder_name(path) if path.is_dir() else path.stem, options)


def read_parquet_images(files: Sequence[Path], name: str, options: ReadOptions) -> ImageTable:
    """Read the rows of all files; each image is written to the cache as it is.

    The label is the column ``label``, the only ClassLabel, or the one of ``label_col``; numbers have the names that the file's
    metadata give them (ClassLabel). The split is that of the file names, as in ``train-00000-of-00002.parquet``, or of their
    folders, as in ``train/0000.parquet``. Other columns of numbers and text are kept if all files have them.

    Raises:
        DataError: a file cannot be read, is much larger than its bytes, or has no image or label in a row.
        TametailError: the cache folder cannot be written.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[str]] = {"image": [], "label": [], "group": [], "split": []}
    others: list[dict[str, list[Any]]] = []
    counts, splits = [], splits_of_files(map(_part, files))
    for number, file in enumerate(files):
        try:
            with pq.ParquetFile(regular(file)) as opened:
                schema = opened.schema_arrow
                image = _image_column(file)
                label = _label_column(file, schema, options.label_col)
                kept = [label, *([options.group_col] if options.group_col else [])]
                missing = [column for column in kept if column not in schema.names]
                if image is None or missing:
                    raise DataError(
                        f"expected the columns {', '.join(kept)} and one of image bytes in {file}, found {', '.join(schema.names)}"
                    )
                further = [
                    name for name in _plain_columns(schema) if name not in (*columns, *RESERVED, label)
                ]
                _check_sizes(opened, image, [*kept, *further], file)
                rows = opened.read(columns=list(dict.fromkeys([*kept, *further])))
                suffixes = [image_suffix(content) for content in _contents(opened, image, file)]
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {quoted(str(error).strip())}") from error
        names = _class_names(schema, label)
        ids = [f"{number:05d}/{row:07d}{suffix}" for row, suffix in enumerate(suffixes)]
        counts.append(len(ids))
        others.append({column: rows[column].to_pylist() for column in further})
        columns["image"] += ids
        columns["label"] += [
            _label(cell, names, file, row) for row, cell in enumerate(rows[label].to_pylist())
        ]
        grouped = rows[options.group_col].to_pylist() if options.group_col else ids
        if empty := sum(group is None or group == "" for group in grouped):
            raise DataError(
                f"{empty} of {len(ids)} rows of {file} have no group in column {options.group_col!r}; fill them in"
            )
        columns["group"] += [str(group) for group in grouped]
        columns["split"] += [splits.get(_part(file), "")] * len(ids)
    shared = [name for name in others[0] if all(name in each for each in others)]
    place = cache_dir() / "parquet" / _digest(files)
    folder = cached_folder(
        place, partial(_write_images, files, columns["image"]), partial(_is_complete, counts)
    )
    reading = SourceReading(
        f"column {label!r} of {len(files)} Parquet {'file' if len(files) == 1 else 'files'}",
        f"column {options.group_col!r}" if options.group_col else NO_GROUPS,
        f"file names: {', '.join(sorted(splits))}" if splits else NO_SPLIT,
    )
    frame = pd.DataFrame(columns, dtype=object)
    for name in shared:
        frame[name] = [cell for each in others for cell in each[name]]
    return ImageTable.from_frame(frame, folder, name, allow_leaks=options.allow_leaks, reading=reading)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in PARQUET_SUFFIXES else []
    if not path.is_dir():
        return []
    for level in ("*", "data/*", "*/*", "*/*/*"):  # default/train/0000.parquet, as the Hub converts sets
        found = sorted(
            file
            for file in path.glob(level)
            if file.suffix.lower() in PARQUET_SUFFIXES and file.is_file() and not file.name.startswith(".")
        )
        folders = {file.parent for file in found}
        if found and (len(folders) == 1 or _are_splits(folders)):
            return found
    return []


def _are_splits(folders: Iterable[Path]) -> bool:
    """Whether these are folders of splits, and of one set."""
    listed = list(folders)
    is_one_set = len({folder.parent for folder in listed}) == 1
    return is_one_set and bool(splits_of_files(folder.name for folder in listed))


def _image_column(file: Path) -> str | None:
    """The column that holds image bytes, plain or in a record of bytes and path; None if there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(regular(file))
    except (pa.ArrowException, OSError):
        return None
    return image_bytes_column(schema)


def _label_column(file: Path, schema: Any, given: str | None) -> str:
    numbered = [name for name in schema.names if _class_names(schema, name)]
    column = given or ("label" if "label" in schema.names or len(numbered) != 1 else numbered[0])
    if column not in schema.names:
        raise DataError(
            f"expected a column {column!r} of labels in {file}, found {', '.join(schema.names)}; name one with --label-col"
        )
    return column


def _plain_columns(schema: Any) -> list[str]:
    """The columns of numbers, text, and true and false."""
    import pyarrow.types as kinds

    tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_string, kinds.is_large_string)
    return [field.name for field in schema if any(test(field.type) for test in tests)]


def _check_sizes(opened: Any, image: str, columns: Sequence[str], file: Path) -> None:
    """Refuse, by its metadata, a file that would be much larger in memory than on the disk."""
    metadata = opened.metadata
    if metadata.num_rows > _MOST_ROWS:
        raise DataError(
            f"expected at most {_MOST_ROWS:,} rows in {file}, found {metadata.num_rows:,}; write several files"
        )
    cells = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name, size = column.path_in_schema.split(".")[0], column.total_uncompressed_size
            cells += size if name in columns else 0
            if name == image and size > max(_MOST_RATIO * column.total_compressed_size, _MOST_CELLS):
                raise DataError(
                    f"expected images of about {column.total_compressed_size:,} bytes in a row group of {file}, as they are stored, "
                    f"found {size:,}: more than {_MOST_RATIO} times as many; write the file again without compression"
                )
    if cells > _MOST_CELLS:
        raise DataError(
            f"expected at most {_MOST_CELLS:,} bytes of labels and other columns in {file}, found {cells:,}; write it without "
            f"columns that are not needed"
        )


def _class_names(schema: Any, label: str) -> list[str]:
    """The names of the numbers of a ClassLabel in the metadata that the datasets library writes; empty if there are none."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return [str(name) for name in described["info"]["features"][label]["names"]]
    except (KeyError, ValueError, TypeError):
        return []


def _label(cell: object, names: Sequence[str], file: Path, row: int) -> str:
    if cell is None or cell == "" or (names and not (isinstance(cell, int) and 0 <= cell < len(names))):
        expected = f"a number from 0 to {len(names) - 1}" if names else "a label"
        raise DataError(
            f"expected {expected} in every row of {file}, found {quoted(repr(cell))} in row {row + 1}"
        )
    return names[cell] if names and isinstance(cell, int) else str(cell)


def _part(file: Path) -> str:
    """The name of a file without its number, or that of its folder for a file that only has a number."""
    numbered = _PART.fullmatch(file.stem)
    return numbered[1] if numbered else file.parent.name if file.stem.isdigit() else file.stem


def _contents(opened: Any, image: str, file: Path) -> Iterator[bytes]:
    row = 0
    for batch in opened.iter_batches(batch_size=_BATCH, columns=[image]):
        for cell in batch.column(0).to_pylist():
            row += 1
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(content, bytes) or not 0 < len(content) <= _MAX_IMAGE:
                raise DataError(
                    f"expected the bytes of an image of at most 100 MB in every row of {file}, but not so in row {row}"
                )
            yield content


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:32]


def _write_images(files: Sequence[Path], images: Sequence[str], folder: Path) -> None:
    import pyarrow.parquet as pq

    remaining = iter(images)
    for number, file in enumerate(files):
        (folder / f"{number:05d}").mkdir()
        image = _image_column(file)
        assert image is not None
        with pq.ParquetFile(file) as opened:
            for content in _contents(opened, image, file):
                (folder / next(remaining)).write_bytes(content)


def _is_complete(counts: Sequence[int], folder: Path) -> bool:
    places = [folder / f"{number:05d}" for number in range(len(counts))]
    return all(
        place.is_dir() and len(os.listdir(place)) == count
        for place, count in zip(places, counts, strict=True)
    )
