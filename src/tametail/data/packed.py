"""A table with its images in a few large files, called shards, as they are quickly copied and read from object stores.

Shards are Parquet files with rows of the table and the bytes of the image files; or tar archives as of WebDataset, beside a
Parquet file with the whole table. The metadata of the Parquet files describe the table.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Unpack

from tametail.core.atomic import atomic_directory
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError, explain_write_error
from tametail.core.option import pick, takes
from tametail.core.options import PackOptions, TableOptions
from tametail.data.decoding.bit_depth import find_bit_depth
from tametail.data.decoding.decode import read_file
from tametail.data.decoding.shards import IMAGE_BYTES, IMAGE_DIGEST, SIDECARS, image_digest
from tametail.data.table import ImageTable

MARK = b"tametail"
"""Key of the description in a shard's metadata."""
VERSION = 1
IMAGE_SHARD, TABLE_FILE, CLASSES_FILE = "image_shard", "table.parquet", "classes.txt"
"""Of tar archives: the column with the number of the archive of each image, the table, and the names of the classes by number."""
_GROUP_BYTES = 16 * 2**20  # of images in a row group, which is read at once
_GROUP_ROWS = 1000
_SHARD_ROWS = 50_000  # a tar archive has three files for each


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
            table,
            Path(str(options["out"])),
            kind=options["format"],
            shard_bytes=options["shard_mb"] * 10**6,
            advance=advance,
        )
    total = sum(file.stat().st_size for file in files)
    console.say(f"{len(table):,} images in {len(files):,} files, {total / 1e9:.3g} GB")
    return files


def write_shards(
    table: ImageTable,
    out: Path,
    *,
    kind: Literal["parquet", "webdataset"] = "parquet",
    shard_bytes: int = 2**29,
    advance: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write a table with its images into a new folder, which `read_images` reads as the same table.

    Image files are copied byte for byte, with all that is in them, such as the names in the headers of DICOM files.

    Args:
        out: the folder; it must not exist.
        kind: Parquet files; or tar archives with an image, a .json of its row and a .cls with the number of its class for each
            key, and the whole table in `TABLE_FILE`.
        shard_bytes: bytes of images above which a new file is begun, at the latest after some 50,000 images.
        advance: progress callback, called with the number of images written since the last call.

    Raises:
        UsageError: the folder exists, or a column has a name that the shards need.
        DataError: an image file cannot be read.
        TametailError: the folder cannot be written.
    """
    if out.exists():
        raise UsageError(f"{out} already exists; remove it, or give another folder")
    reserved = {IMAGE_BYTES, IMAGE_DIGEST, *([IMAGE_SHARD] if kind == "webdataset" else [])}
    if taken := reserved & set(table.frame):
        raise UsageError(
            f"expected no columns {' and '.join(sorted(reserved))}, got {', '.join(taken)}; rename them"
        )
    with explain_write_error(out), atomic_directory(out) as folder:
        writer = (_TarShards if kind == "webdataset" else _ParquetShards)(table, folder)
        written, first = 0, 0
        try:
            for start, contents in _groups(table):
                if not writer.names or written >= shard_bytes or start - first >= _SHARD_ROWS:
                    writer.begin()
                    written, first = 0, start
                writer.write(start, contents)
                written += sum(map(len, contents))
                if advance is not None:
                    advance(len(contents))
        finally:
            writer.close()
        writer.finish()
    return [out / name for name in writer.names]


class _Shards(ABC):
    """Writes images with their rows into shards of a folder."""

    def __init__(self, table: ImageTable, folder: Path) -> None:
        import pyarrow as pa

        self.table, self.folder = table, folder
        self.names: list[str] = []
        self.frame_schema = pa.Schema.from_pandas(table.frame, preserve_index=False)
        self.metadata = {
            **(self.frame_schema.metadata or {}),
            MARK: json.dumps(_description(table)).encode(),
        }
        self.writer: Any = None

    def begin(self) -> None:
        """Begin a shard."""
        self.close()
        self.names.append(f"{len(self.names):05d}.{self.suffix}")
        self.writer = self.open(self.folder / self.names[-1])

    def close(self) -> None:
        """End the shard."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    suffix: str

    @abstractmethod
    def open(self, path: Path) -> Any: ...

    @abstractmethod
    def write(self, start: int, contents: Sequence[bytes]) -> None:
        """Write the images of consecutive rows from ``start`` on."""

    def finish(self) -> None:
        """Write what else belongs to the shards."""
        return


class _ParquetShards(_Shards):
    suffix = "parquet"

    def open(self, path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self.frame_schema.append(pa.field(IMAGE_BYTES, pa.large_binary()))
        self.schema = schema.append(pa.field(IMAGE_DIGEST, pa.string())).with_metadata(self.metadata)
        # Images are compressed already; columns of text are small.
        return pq.ParquetWriter(path, self.schema, compression="none")

    def write(self, start: int, contents: Sequence[bytes]) -> None:
        import pyarrow as pa

        rows = self.table.frame.iloc[start : start + len(contents)]
        group = pa.Table.from_pandas(rows, schema=self.frame_schema, preserve_index=False)
        group = group.append_column(IMAGE_BYTES, pa.array(contents, pa.large_binary()))
        group = group.append_column(IMAGE_DIGEST, pa.array(list(map(image_digest, contents)), pa.string()))
        self.writer.write_table(group.cast(self.schema), row_group_size=len(contents))


class _TarShards(_Shards):
    suffix = "tar"

    def __init__(self, table: ImageTable, folder: Path) -> None:
        super().__init__(table, folder)
        self.digests: list[str] = []
        self.shards: list[int] = []
        self.numbers = {name: number for number, name in enumerate(table.class_names)}

    def open(self, path: Path) -> Any:
        return tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)

    def write(self, start: int, contents: Sequence[bytes]) -> None:
        rows = self.table.frame.iloc[start : start + len(contents)]
        described = [json.loads(line) for line in rows.to_json(orient="records", lines=True).splitlines()]
        for number, (content, row) in enumerate(zip(contents, described, strict=True), start):
            self._add(f"{number:09d}{_suffix(row['image'])}", content)
            self._add(f"{number:09d}.json", json.dumps(row, ensure_ascii=False).encode())
            if not self.table.multi_label:
                self._add(f"{number:09d}.cls", str(self.numbers[row["label"]]).encode())
            self.digests.append(image_digest(content))
            self.shards.append(len(self.names) - 1)

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        self.writer.addfile(member, io.BytesIO(content))

    def finish(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(self.table.frame, schema=self.frame_schema, preserve_index=False)
        table = table.append_column(IMAGE_DIGEST, pa.array(self.digests, pa.string()))
        table = table.append_column(IMAGE_SHARD, pa.array(self.shards, pa.int32()))
        pq.write_table(table.replace_schema_metadata(self.metadata), self.folder / TABLE_FILE)
        self.names.append(TABLE_FILE)
        # A name with a line break, which hardly exists, is in the .json of its images.
        lines = [" ".join(name.splitlines()) for name in self.table.class_names]
        (self.folder / CLASSES_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.names.append(CLASSES_FILE)


def _suffix(image: str) -> str:
    """The suffix of an image in an archive, by which it is told from what belongs to it."""
    suffix = PurePosixPath(image).suffix.lower()
    return (
        ".img"
        if not suffix or suffix in SIDECARS or not suffix[1:].isalnum() or not suffix.isascii()
        else suffix
    )


def _description(table: ImageTable) -> dict[str, Any]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        deep = find_bit_depth(table.paths, pool).bits is not None
    return {
        "version": VERSION,
        "name": table.name,
        "images": len(table),
        "class_names": list(table.class_names),
        "multi_label": table.multi_label,
        "synthetic": table.synthetic,
        **({} if table.slices is None else {"slices": table.slices}),
        "reading": None if table.reading is None else table.reading.as_dict(),
        "may_be_deep": deep,  # so that nothing but the table need be copied to know the bit depth
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
