"""Folders that `tametail.data.packed.write_shards` wrote, on a disk or at a URL → `ImageTable`, with the image files in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.regular_file import regular
from tametail.core.text import quoted, sample_of
from tametail.data.decoding.cache_folder import cache_dir, cached_folder
from tametail.data.packed import IMAGE_BYTES, IMAGE_DIGEST, MARK, VERSION, image_digest
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.reading import SourceReading
from tametail.data.table import COLUMNS, ImageTable

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_AT_ONCE = 64  # images in memory while they are written to the cache


@register_reader
class PackedReader(Reader):
    """Reads a folder that ``tametail pack`` wrote, or its URL (``s3://bucket/folder`` and what else fsspec opens)."""

    name = "packed"
    priority = 7  # after readers of other packages, before those that look for a path

    def matches(self, source: str | Path) -> bool:
        if _URL.match(str(source)):
            return True
        folder = Path(source).expanduser()
        first = min(folder.glob("*.parquet"), default=None) if folder.is_dir() else None
        return first is not None and _is_shard(first)

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        options.refuse_table_options("images and labels are in packed shards")
        return read_packed(str(source), allow_leaks=options.allow_leaks)


def read_packed(source: str, *, allow_leaks: bool = False) -> ImageTable:
    """The table that was packed; each image is written to the cache once, as it was.

    Args:
        source: a folder or a URL.
        allow_leaks: see `ImageTable.from_frame`.

    Raises:
        UsageError: a kind of URL for which a package is missing.
        DataError: it cannot be read, a shard is missing or damaged, or a name leads out of the folder.
        TametailError: the cache folder cannot be written.
    """
    with _explain(source):  # also a description that lacks something
        return _read(source, allow_leaks)


def _read(source: str, allow_leaks: bool) -> ImageTable:
    import pandas as pd
    import pyarrow.parquet as pq

    described: dict[str, Any] = {}
    frames: list[pd.DataFrame] = []
    system, files = _shards(source)
    for file in files:
        with system.open(file, "rb") as handle, pq.ParquetFile(handle) as shard:
            own = json.loads((shard.schema_arrow.metadata or {}).get(MARK, b"{}"))
            if own.get("version") != VERSION or own != (described or own):
                raise DataError(
                    f"expected shards of one table, as tametail pack of this version writes them, in {source}, but "
                    f"{PurePosixPath(file).name} is none of them; pack it again"
                )
            described = own
            columns = [name for name in shard.schema_arrow.names if name != IMAGE_BYTES]
            frames.append(shard.read(columns=columns).to_pandas())
    frame = pd.concat(frames, ignore_index=True)
    images = frame["image"].tolist()
    if len(frame) != described["images"] or tuple(frame.columns[:4]) != COLUMNS:
        raise DataError(
            f"expected {described['images']:,} images in the shards of {source}, found {len(frame):,}; copy all of its files"
        )
    if not _is_inside(described["name"]) or "/" in described["name"]:  # outputs are named by it
        raise DataError(
            f"expected the name of a data set in {source}, found {quoted(described['name'])}; pack it again"
        )
    if unsafe := [image for image in images if not _is_inside(image)]:
        raise DataError(
            f"expected image names inside of {source}, found {sample_of(list(map(quoted, unsafe)))}; pack it again"
        )
    content = "\n".join(map("{} {}".format, frame.pop(IMAGE_DIGEST), images))
    place = cache_dir() / "packed" / hashlib.sha256(content.encode()).hexdigest()[:32]
    folder = cached_folder(place, partial(_write_images, source), partial(_is_complete, len(images)))
    reading = described["reading"]
    table = ImageTable.from_frame(
        frame,
        folder,
        described["name"],
        synthetic=described["synthetic"],
        multi_label=described["multi_label"],
        allow_leaks=allow_leaks,
        reading=None if reading is None else SourceReading.from_dict(reading),
    )
    return ImageTable(
        table.frame,
        folder,
        tuple(described["class_names"]),  # also those without an image
        table.name,
        table.synthetic,
        table.multi_label,
        table.reading,
    )


def _is_shard(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return MARK in (pq.read_schema(regular(path)).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def _shards(source: str) -> tuple[Any, Sequence[str]]:
    """The file system of a folder or URL, and its shards in order."""
    import fsspec

    system, folder = fsspec.core.url_to_fs(source if _URL.match(source) else str(Path(source).expanduser()))
    files = sorted(system.glob(f"{folder.rstrip('/')}/*.parquet"))
    if not files:
        raise DataError(f"expected the .parquet files of tametail pack in {source}, found none")
    if not _URL.match(source):
        for file in files:
            regular(Path(file))
    return system, files


@contextmanager
def _explain(source: str) -> Iterator[None]:
    """Raise what a file system raises as an error with advice."""
    try:
        yield
    except TametailError:
        raise
    except ImportError as error:
        raise UsageError(
            f"{source} cannot be opened: {error} (for s3://: pip install 'tametail[s3]')"
        ) from error
    except Exception as error:  # each kind of file system has exceptions of its own
        found = quoted(str(error).strip() or type(error).__name__)
        raise DataError(f"{source} cannot be read: {found}; check its name and your access to it") from error


def _is_inside(image: str) -> bool:
    path = PurePosixPath(image)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and str(path) == image


def _write_images(source: str, folder: Path) -> None:
    for image, content in _contents(source):
        path = folder / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _contents(source: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the image files of all shards, after their digests were compared."""
    import pyarrow.parquet as pq

    with _explain(source):
        system, files = _shards(source)
        for file in files:
            with system.open(file, "rb") as handle, pq.ParquetFile(handle) as shard:
                columns = ["image", IMAGE_BYTES, IMAGE_DIGEST]
                for batch in shard.iter_batches(batch_size=_AT_ONCE, columns=columns):
                    for image, content, digest in zip(*(column.to_pylist() for column in batch), strict=True):
                        if image_digest(content) != digest:
                            raise DataError(
                                f"{image} in {PurePosixPath(file).name} of {source} is damaged; copy or pack it again"
                            )
                        yield image, content


def _is_complete(images: int, folder: Path) -> bool:
    return sum(len(files) for _, _, files in os.walk(folder)) == images
