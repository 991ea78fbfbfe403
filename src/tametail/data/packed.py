"""A table with its images in a few large Parquet files, called shards, as they are quickly copied and read from object stores.

A shard holds rows of the table with the bytes of the image files and their digests; its metadata describe the whole table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Unpack

from tametail.core.atomic import atomic_directory
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError, explain_write_error
from tametail.core.option import pick, takes
from tametail.core.options import PackOptions, TableOptions
from tametail.data.decoding.decode import read_file
from tametail.data.table import ImageTable

MARK = b"tametail"
"""Key of the description in a shard's metadata."""
VERSION = 1
IMAGE_BYTES, IMAGE_DIGEST = "image_bytes", "image_digest"
_GROUP_BYTES = 16 * 2**20  # of images in a row group, which is read at once
_GROUP_ROWS = 1000


@takes(PackOptions)
def pack(
    data: str | Path | ImageTable, *, console: Console | None = None, **options: Unpack[PackOptions]
) -> list[Path]:
    """Write a data set with its images into a few large files, which every function reads as ``data``, also from a URL.

    Args:
        data: what `read_images` takes, or a table.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        The files.

    Raises:
        UsageError: an invalid option, the folder exists, or a column has a name that the files need.
        DataError: the data, or an image file, cannot be read.
        TametailError: the folder cannot be written.
    """
    from tametail.data import read_images, say_reading

    console = console or Console(quiet=True)
    if options["shard_mb"] < 1:
        raise UsageError(f"expected --shard-mb of at least 1, got {options['shard_mb']}")
    table = data if isinstance(data, ImageTable) else read_images(data, **pick(TableOptions, options))
    say_reading(table, console)
    with console.track("Images", len(table)) as advance:
        files = write_shards(
            table, Path(str(options["out"])), shard_bytes=options["shard_mb"] * 10**6, advance=advance
        )
    total = sum(file.stat().st_size for file in files)
    console.say(f"{len(table):,} images in {len(files):,} files, {total / 1e9:.3g} GB")
    return files


def write_shards(
    table: ImageTable,
    out: Path,
    *,
    shard_bytes: int = 2**29,
    advance: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write a table with its images into a new folder, which `read_images` reads as the same table.

    Image files are copied byte for byte, with all that is in them, such as the names in the headers of DICOM files.

    Args:
        out: the folder; it must not exist.
        shard_bytes: bytes of images above which a new file is begun.
        advance: progress callback, called with the number of images written since the last call.

    Raises:
        UsageError: the folder exists, or a column has a name that the shards need.
        DataError: an image file cannot be read.
        TametailError: the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if out.exists():
        raise UsageError(f"{out} already exists; remove it, or give another folder")
    if taken := {IMAGE_BYTES, IMAGE_DIGEST} & set(table.frame):
        raise UsageError(
            f"expected no columns {IMAGE_BYTES} and {IMAGE_DIGEST}, got {', '.join(taken)}; rename them"
        )
    of_table = pa.Schema.from_pandas(table.frame, preserve_index=False)
    schema = of_table.append(pa.field(IMAGE_BYTES, pa.large_binary()))
    schema = schema.append(pa.field(IMAGE_DIGEST, pa.string()))
    schema = schema.with_metadata(
        {**(of_table.metadata or {}), MARK: json.dumps(_description(table)).encode()}
    )
    names: list[str] = []
    with explain_write_error(out), atomic_directory(out) as folder:
        writer: Any = None
        written = 0
        try:
            for start, contents in _groups(table):
                if writer is None or written >= shard_bytes:
                    if writer is not None:
                        writer.close()
                    names.append(f"{len(names):05d}.parquet")
                    # Images are compressed already; columns of text are small.
                    writer = pq.ParquetWriter(folder / names[-1], schema, compression="none")
                    written = 0
                rows = table.frame.iloc[start : start + len(contents)]
                group = pa.Table.from_pandas(rows, schema=of_table, preserve_index=False)
                group = group.append_column(schema.field(IMAGE_BYTES), pa.array(contents, pa.large_binary()))
                digests = [image_digest(content) for content in contents]
                group = group.append_column(schema.field(IMAGE_DIGEST), pa.array(digests, pa.string()))
                writer.write_table(group.cast(schema), row_group_size=len(contents))
                written += sum(map(len, contents))
                if advance is not None:
                    advance(len(contents))
        finally:
            if writer is not None:
                writer.close()
    return [out / name for name in names]


def image_digest(content: bytes) -> str:
    """BLAKE2b digest (32 hex digits) of the content of an image file."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _description(table: ImageTable) -> dict[str, Any]:
    return {
        "version": VERSION,
        "name": table.name,
        "images": len(table),
        "class_names": list(table.class_names),
        "multi_label": table.multi_label,
        "synthetic": table.synthetic,
        "reading": None if table.reading is None else table.reading.as_dict(),
    }


def _groups(table: ImageTable) -> Iterator[tuple[int, list[bytes]]]:
    """First row and contents of consecutive images that are written at once."""
    contents: list[bytes] = []
    start, size = 0, 0
    for row, (image, path) in enumerate(zip(table.frame["image"], table.paths, strict=True)):
        try:
            content = read_file(path)
        except DataError as error:
            raise DataError(
                f"expected every image to be readable, but {image}: {error}; repair it or leave it "
                f"out (tametail inspect lists all such files)"
            ) from error
        if contents and (size + len(content) > _GROUP_BYTES or len(contents) == _GROUP_ROWS):
            yield start, contents
            start, contents, size = row, [], 0
        contents.append(content)
        size += len(content)
    yield start, contents
