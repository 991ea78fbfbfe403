"""Folders that `tametail.data.packed.write_shards` wrote, on a disk or at a URL → `ImageTable`, whose images are read from the shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import quoted, sample_of
from tametail.data.decoding.shards import (
    IMAGE_BYTES,
    IMAGE_DIGEST,
    Shard,
    explain_source,
    file_system,
    is_inside,
    is_url,
    list_shard,
    parquet_image_bytes,
    register_shards,
)
from tametail.data.decoding.slices import check_rule
from tametail.data.packed import IMAGE_SHARD, MARK, TABLE_FILE, VERSION
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.webdataset import list_archives, read_archives
from tametail.data.readers.zip_archives import is_zip_url, read_zip_url
from tametail.data.reading import SourceReading
from tametail.data.table import COLUMNS, ImageTable

if TYPE_CHECKING:
    import pandas as pd

_MOST_TABLE_BYTES = 2**33  # of the columns but the images, of a shard


@register_reader
class PackedReader(Reader):
    """Reads a folder that ``tametail pack`` wrote, or its URL (``s3://bucket/folder`` and what else fsspec opens).

    At a URL without such files, the archives of a WebDataset are read, or the zip archive that it names.
    """

    name = "packed"
    priority = 7  # after readers of other packages, before those that look for a path

    def matches(self, source: str | Path) -> bool:
        if is_url(source):
            return True
        folder = Path(source).expanduser()
        first = min(folder.glob("*.parquet"), default=None) if folder.is_dir() else None
        return first is not None and _is_shard(first)

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        if is_zip_url(source):
            return read_zip_url(str(source), options)
        if is_url(source):
            with explain_source(str(source)):
                system, folder = file_system(source)
                packed = system.glob(f"{folder}/*.parquet")
                archives = [] if packed else list_archives(system, folder, str(source))
            if archives:
                return read_archives(archives, str(source), options)
        options.refuse_table_options("images and labels are in packed shards")
        return read_packed(str(source), allow_leaks=options.allow_leaks)


def read_packed(source: str, *, allow_leaks: bool = False) -> ImageTable:
    """The table that was packed. Images are read from the shards when they are needed, see `tametail.data.decoding.shards`.

    Args:
        source: a folder or a URL.
        allow_leaks: see `ImageTable.from_frame`.

    Raises:
        UsageError: a kind of URL for which a package is missing.
        DataError: it cannot be read, a shard is missing or damaged, or a name leads out of the folder.
        TametailError: the cache folder cannot be written, or the largest shards do not fit in it.
    """
    with explain_source(source):  # also a description that lacks something
        return _read(source, allow_leaks)


def _read(source: str, allow_leaks: bool) -> ImageTable:
    import pandas as pd

    system, folder = file_system(source)
    files = sorted(system.glob(f"{folder}/*.parquet"))
    if not files:
        raise DataError(
            f"expected the .parquet files of tametail pack, or the .tar files of a WebDataset, in {source}, found none; of zip archives "
            f"give the URL of one that ends with .zip"
        )
    read = [_read_shard(system, file, source) for file in files]
    described = read[0][0]
    for file, (own, _, _) in zip(files, read, strict=True):
        if own.get("version") != VERSION or own != described:
            raise DataError(
                f"expected shards of one table, as tametail pack of this version writes them, in {source}, but "
                f"{PurePosixPath(file).name} is none of them; pack it again"
            )
    frame = pd.concat([own for _, own, _ in read], ignore_index=True)
    images = frame["image"].tolist()
    if len(frame) != described["images"] or tuple(frame.columns[:4]) != COLUMNS:
        raise DataError(
            f"expected {described['images']:,} images in the shards of {source}, found {len(frame):,}; copy all of its files"
        )
    if not is_inside(described["name"]) or "/" in described["name"]:  # outputs are named by it
        raise DataError(
            f"expected the name of a data set in {source}, found {quoted(described['name'])}; pack it again"
        )
    if unsafe := [image for image in images if not is_inside(image)]:
        raise DataError(
            f"expected image names inside of {source}, found {sample_of(list(map(quoted, unsafe)))}; pack it again"
        )
    if not all(left < right for left, right in pairwise(images)):
        raise DataError(
            f"expected images in sorted order in the shards of {source}, but not so; pack it again"
        )
    digests = frame.pop(IMAGE_DIGEST).tolist()
    if IMAGE_SHARD in frame:
        counts = _archive_counts(frame.pop(IMAGE_SHARD).tolist(), source)
        shards = [
            list_shard(system, f"{folder}/{number:05d}.tar", _place(source, f"{number:05d}.tar"), "tar")
            for number in range(len(counts))
        ]
    else:
        counts, shards = [len(own) for _, own, _ in read], [shard for _, _, shard in read]
    placed, start = [], 0
    for shard, rows in zip(shards, counts, strict=True):
        if rows:
            placed.append(replace(shard, first=images[start], start=start, rows=rows))
        start += rows
    root = register_shards(placed, images, digests, may_be_deep=described.get("may_be_deep", True))
    reading = described["reading"]
    table = ImageTable.from_frame(
        frame,
        root,
        described["name"],
        synthetic=described["synthetic"],
        multi_label=described["multi_label"],
        allow_leaks=allow_leaks,
        reading=None if reading is None else SourceReading.from_dict(reading),
    )
    rule = described.get("slices")
    slices = None if rule is None else check_rule(str(rule))
    return replace(
        table, class_names=tuple(described["class_names"]), slices=slices
    )  # also classes without an image


def _read_shard(system: Any, file: str, source: str) -> tuple[dict[str, Any], pd.DataFrame, Shard]:
    """Description, rows without images, and place of a Parquet file."""
    import pyarrow.parquet as pq

    shard = list_shard(system, file, _place(source, PurePosixPath(file).name), "parquet")
    with system.open(file, "rb") as handle, pq.ParquetFile(handle) as opened:
        own = json.loads((opened.schema_arrow.metadata or {}).get(MARK, b"{}"))
        groups = range(opened.metadata.num_row_groups)
        size = sum(parquet_image_bytes(opened, group) for group in groups)
        other = sum(max(opened.metadata.row_group(group).total_byte_size, 0) for group in groups) - size
        if other > _MOST_TABLE_BYTES:
            raise DataError(
                f"expected at most {_MOST_TABLE_BYTES:,} bytes of labels and other columns in "
                f"{PurePosixPath(file).name} of {source}, found {other:,}; pack fewer columns"
            )
        columns = [name for name in opened.schema_arrow.names if name != IMAGE_BYTES]
        return own, opened.read(columns=columns).to_pandas(), replace(shard, bytes=size)


def _archive_counts(numbers: Sequence[int], source: str) -> list[int]:
    """Images in each archive, whose numbers must not decrease."""
    counts: list[int] = []
    for number in numbers:
        if number == len(counts):
            counts.append(0)
        if number != len(counts) - 1:
            raise DataError(
                f"expected the numbers of archives in order in {TABLE_FILE} of {source}, found {quoted(number)}; pack it again"
            )
        counts[-1] += 1
    return counts


def _place(source: str, name: str) -> str:
    """URL or path of a file of the folder."""
    return (
        f"{source.rstrip('/')}/{name}" if is_url(source) else str(Path(source).expanduser().absolute() / name)
    )


def _is_shard(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return MARK in (pq.read_schema(regular(path)).metadata or {})
    except (pa.ArrowException, OSError):
        return False
