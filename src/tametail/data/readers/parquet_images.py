"""Parquet files that hold the images themselves, as sets on the Hugging Face Hub → `ImageTable`, with the files in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import quoted
from tametail.data.decoding.cache import cache_dir
from tametail.data.decoding.cache_folder import cached_folder
from tametail.data.readers.image_entries import IMAGE_SUFFIXES
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.split_names import splits_of_files
from tametail.data.readers.table_file import PARQUET_SUFFIXES, image_bytes_column
from tametail.data.readers.table_folders import folder_name
from tametail.data.reading import NO_GROUPS, NO_SPLIT, SourceReading
from tametail.data.table import ImageTable

_MAX_IMAGE = 100 << 20  # bytes of one image
_PART = re.compile(r"(.+?)-\d+-of-\d+(?:-\w+)?")  # train-00000-of-00002


@register_reader
class ParquetImagesReader(Reader):
    """Reads a Parquet file with a column of image bytes, or a folder of such files (or with them in data/)."""

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

    The label is the column ``label`` or the one of ``label_col``; numbers have the names that the file's metadata give them
    (ClassLabel). The split is that of the file names, as in ``train-00000-of-00002.parquet``.

    Raises:
        DataError: a file cannot be read, or has no image or label in a row.
        TametailError: the cache folder cannot be written.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[str]] = {"image": [], "label": [], "group": [], "split": []}
    counts, splits = [], splits_of_files(map(_part, files))
    for number, file in enumerate(files):
        try:
            with pq.ParquetFile(regular(file)) as opened:
                schema = opened.schema_arrow
                image = _image_column(file)
                label = _label_column(file, schema.names, options.label_col)
                kept = [label, *([options.group_col] if options.group_col else [])]
                missing = [column for column in kept if column not in schema.names]
                if image is None or missing:
                    raise DataError(
                        f"expected the columns {', '.join(kept)} and one of image bytes in {file}, found {', '.join(schema.names)}"
                    )
                rows = opened.read(columns=kept)
                suffixes = [_suffix(content) for content in _contents(opened, image, file)]
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {quoted(str(error).strip())}") from error
        names = _class_names(schema, label)
        ids = [f"{number:05d}/{row:07d}{suffix}" for row, suffix in enumerate(suffixes)]
        counts.append(len(ids))
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
    return ImageTable.from_frame(frame, folder, name, allow_leaks=options.allow_leaks, reading=reading)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in PARQUET_SUFFIXES else []
    for folder in (path, path / "data"):
        if folder.is_dir():
            found = sorted(
                file
                for file in folder.iterdir()
                if file.suffix.lower() in PARQUET_SUFFIXES and file.is_file()
            )
            if found:
                return found
    return []


def _image_column(file: Path) -> str | None:
    """The column that holds image bytes, plain or in a record of bytes and path; None if there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(regular(file))
    except (pa.ArrowException, OSError):
        return None
    return image_bytes_column(schema)


def _label_column(file: Path, names: Sequence[str], given: str | None) -> str:
    column = given or "label"
    if column not in names:
        raise DataError(
            f"expected a column {column!r} of labels in {file}, found {', '.join(names)}; name one with --label-col"
        )
    return column


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
    numbered = _PART.fullmatch(file.stem)
    return numbered[1] if numbered else file.stem


def _contents(opened: Any, image: str, file: Path) -> Iterator[bytes]:
    row = 0
    for batch in opened.iter_batches(batch_size=64, columns=[image]):
        for cell in batch.column(0).to_pylist():
            row += 1
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(content, bytes) or not 0 < len(content) <= _MAX_IMAGE:
                raise DataError(
                    f"expected the bytes of an image of at most 100 MB in every row of {file}, but not so in row {row}"
                )
            yield content


def _suffix(content: bytes) -> str:
    """The suffix of an image by its first bytes; .png for other kinds, whose decoding then says what is wrong."""
    starts = {
        b"\xff\xd8": ".jpg",
        b"\x89PNG": ".png",
        b"BM": ".bmp",
        b"II*\0": ".tif",
        b"MM\0*": ".tif",
        b"RIFF": ".webp",
    }
    found = next((suffix for start, suffix in starts.items() if content.startswith(start)), ".png")
    return found if found in IMAGE_SUFFIXES else ".png"


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
