"""Images inside of large files, called shards, on a disk or at a URL.

A table of such images has a folder in the cache, ``packed/KEY``, with their names and digests and the places of the shards, but
without image files. An image is read from its shard: from a tar or zip archive on this machine in place, otherwise from a copy in the
cache, made when the first of its images is read. `make_room` removes copies first of all, and they are made again when needed, so
that the disk holds as much as the limit of the cache allows, and decoded images need no shard.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NamedTuple

from tametail.core.atomic import atomic_path, write_atomically
from tametail.core.console import current_console
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.json_file import parse_json
from tametail.core.parquet_file import open_parquet
from tametail.core.regular_file import regular
from tametail.core.removal import remove
from tametail.core.text import quoted
from tametail.data.decoding.cache_folder import (
    cache_dir,
    cache_lock,
    check_room,
    explain_cache_error,
    make_room,
    used_here,
)
from tametail.data.decoding.tar_members import TarMember, tar_members
from tametail.data.decoding.zip_members import inflated

IMAGE_BYTES, IMAGE_DIGEST = "image_bytes", "image_digest"
"""Columns of packed tables: the content of the image file, and its digest."""
SIDECARS = (".json", ".cls", ".txt")
MAX_IMAGE_BYTES = 2**31
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_BLOCK = 2**22  # bytes that are copied at once
_BATCH_BYTES = 2**28  # of images of a Parquet file in memory
_SHARDS, _IMAGES = "shards.json", "images.parquet"


def image_digest(content: bytes) -> str:
    """BLAKE2b digest (32 hex digits) of the content of an image file."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def is_url(source: str | Path) -> bool:
    """Whether a source is a URL, which fsspec opens, and no path."""
    return _URL.match(str(source)) is not None


def is_inside(image: str) -> bool:
    """Whether an image id leads nowhere but into the folder of its table."""
    path = PurePosixPath(image)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and str(path) == image


def file_system(source: str | Path) -> tuple[Any, str]:
    """The fsspec file system of a URL or path, and the path in it without a final slash."""
    import fsspec

    system, path = fsspec.core.url_to_fs(
        str(source) if is_url(source) else str(Path(source).expanduser().absolute())
    )
    return system, path.rstrip("/")


@contextmanager
def explain_source(source: str, error: type[TametailError] = DataError) -> Iterator[None]:
    """Raise what a file system raises as an error with advice."""
    try:
        yield
    except TametailError:
        raise
    except ImportError as absent:
        raise UsageError(
            f"{source} cannot be opened: {absent} (for s3:// and https://: pip install 'tametail[s3]')"
        ) from absent
    except Exception as wrong:  # each kind of file system has exceptions of its own
        if isinstance(wrong, OSError) and wrong.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise  # of the cache
        found = quoted(str(wrong).strip() or type(wrong).__name__)
        raise error(f"{source} cannot be read: {found}; check its name and your access to it") from wrong


@dataclass(frozen=True)
class Shard:
    """A file that holds consecutive images of a table.

    Attributes:
        kind: ``tar``, ``zip``, or ``parquet`` with the column `IMAGE_BYTES`.
        url: its URL, or its path.
        bytes: of its copy in the cache.
        state: changes with the file.
        first: the smallest id of its images.
        start, rows: its images in the table.
    """

    kind: Literal["tar", "zip", "parquet"]
    url: str
    bytes: int
    state: str
    first: str = ""
    start: int = 0
    rows: int = 0

    @property
    def in_place(self) -> bool:
        """Whether images are read from the file itself."""
        return self.kind != "parquet" and not is_url(self.url)

    @property
    def _base(self) -> Path:
        described = json.dumps([self.kind, self.url, self.bytes, self.state])
        return cache_dir() / "packed" / hashlib.sha256(described.encode()).hexdigest()[:40]

    @property
    def copy(self) -> Path:
        """The contents of its images in the cache."""
        return Path(self.url) if self.in_place else self._base.with_suffix(".bin")

    @property
    def index(self) -> Path:
        """Where each image is in the copy; small, and kept when the copy is removed."""
        return self._base.with_suffix(".parquet")


class ImageMember(NamedTuple):
    """An image of a shard, with what belongs to it as JSON (archives of others only).

    In a zip archive ``size`` is what it takes there, and the JSON has ``inflated``, the bytes of its content, or 0 if it is
    stored as it is.
    """

    image: str
    offset: int
    size: int
    digest: str
    sidecar: str = ""


def list_shard(system: Any, path: str, url: str, kind: Literal["tar", "zip", "parquet"]) -> Shard:
    """A shard as it is listed, without its images."""
    if not is_url(url):
        regular(Path(path))
    listed = system.info(path)
    size = listed.get("size")
    if not isinstance(size, int) or size < 0:
        raise DataError(
            f"expected the size of {url} in its listing, found {quoted(size)}; copy it to this machine"
        )
    state = hashlib.sha256(
        repr(sorted((key, str(value)) for key, value in listed.items())).encode()
    ).hexdigest()
    return Shard(kind, url, size, state)


def register_shards(
    shards: Sequence[Shard], images: Sequence[str], digests: Sequence[str], *, may_be_deep: bool = True
) -> Path:
    """Make the folder that stands for images in shards, without copying any of them.

    Args:
        shards: in the order of their images, with all attributes.
        images: N image ids, sorted.
        digests: N digests, of `image_digest`.
        may_be_deep: False if no image can be grey of more than 8 bits.

    Raises:
        TametailError: the cache cannot be written, or the two largest shards do not fit in it at once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_copies(shards)
    content = "\n".join(map("{} {}".format, digests, images))
    root = cache_dir() / "packed" / hashlib.sha256(content.encode()).hexdigest()[:32]
    described = json.dumps({"may_be_deep": may_be_deep, "shards": [asdict(shard) for shard in shards]})
    with explain_cache_error(root), cache_lock(root.parent, root.name):
        root.mkdir(parents=True, exist_ok=True)
        if not (root / _IMAGES).exists():
            columns = pa.table(
                {"image": pa.array(images, pa.string()), "digest": pa.array(digests, pa.string())}
            )
            with atomic_path(root / _IMAGES) as temporary:
                pq.write_table(columns, temporary)
        write_atomically(root / _SHARDS, described)
    return root


_ADVICE = (
    "Pack the data with a smaller --shard-mb, raise TAMETAIL_CACHE_GB, or name a folder on another disk by the environment "
    "variable TAMETAIL_CACHE"
)


def check_copies(shards: Sequence[Shard]) -> None:
    """Raise a `TametailError` if two shards at once, as are read at their border, do not fit in the cache."""
    copied = sorted(shard.bytes for shard in shards if not shard.in_place)
    check_room(sum(copied[-2:]), _ADVICE)


@dataclass(frozen=True)
class _Packed:
    shards: tuple[Shard, ...]
    may_be_deep: bool

    def shard_of(self, image: str) -> Shard:
        return self.shards[max(bisect_right(self.shards, image, key=lambda shard: shard.first) - 1, 0)]


def _packed(root: Path) -> _Packed | None:
    """What `register_shards` wrote to a folder; None for another folder."""
    try:
        written = os.stat(root / _SHARDS).st_mtime_ns
    except OSError:
        return None
    return _parsed(root, written)


@lru_cache(maxsize=16)
def _parsed(root: Path, written: int) -> _Packed:
    try:
        content = parse_json(regular(root / _SHARDS).read_text(encoding="utf-8"))
        return _Packed(tuple(Shard(**each) for each in content["shards"]), bool(content["may_be_deep"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise TametailError(f"{root} is damaged ({error!r}); remove it, and read the data again") from error


def _root_of(path: Path) -> tuple[Path, _Packed] | None:
    for root in path.parents:
        if (found := _packed(root)) is not None:
            return root, found
    return None


def packed_digests(root: Path) -> dict[str, str] | None:
    """Image id → digest of all images in the shards of a folder; None for another folder."""
    if _packed(root) is None:
        return None
    columns = _read(root / _IMAGES, ["image", "digest"])
    return dict(zip(columns["image"].to_pylist(), columns["digest"].to_pylist(), strict=True))


def may_be_deep(path: Path) -> bool:
    """Whether the image of this path can be grey of more than 8 bits; only shards know better."""
    found = None if path.exists() else _root_of(path)
    return found is None or found[1].may_be_deep


def packed_room(root: Path) -> int:
    """Bytes that the copies of shards still need while all images of a folder are read; 0 for another folder."""
    found = _packed(root)
    copied = [shard for shard in found.shards if not shard.in_place] if found else []
    there = sum(shard.copy.stat().st_size for shard in copied if shard.copy.exists())
    return max(sum(sorted(shard.bytes for shard in copied)[-2:]) - there, 0)


def absent_images(root: Path, images: Sequence[str]) -> list[str]:
    """Paths of the images that are neither files nor in shards."""
    known = packed_digests(root)
    return [
        str(root / image)
        for image in images
        if not ((root / image).is_file() if known is None else image in known)
    ]


def open_image(path: Path) -> IO[bytes]:
    """Open an image file, or the content of an image in a shard.

    Raises:
        OSError: there is none, or it is a folder, pipe or device.
        DataError: the image in the shard is damaged.
        TametailError: the shard cannot be copied to the cache.
    """
    try:
        return regular(path).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        content = packed_image(path)
        if content is None:
            raise
        return io.BytesIO(content)


def packed_image(path: Path) -> bytes | None:
    """The content of an image in a shard, None if no shard has it; see `open_image`."""
    found = _root_of(path)
    if found is None:
        return None
    root, packed = found
    image = path.relative_to(root).as_posix()
    shard = packed.shard_of(image)
    for last in (False, True):
        with open_copy(shard) as file:
            member = _members(root, shard).get(image)
            if member is None:
                return None
            file.seek(member.offset)
            content = file.read(member.size)
        if shard.kind == "zip" and (size := json.loads(member.sidecar)["inflated"]):
            content = inflated(content, size) or b""
        if image_digest(content) == member.digest:
            return content
        if last or shard.in_place:
            break
        with _locked(shard):
            remove(shard.copy)  # copied once more
    name = PurePosixPath(shard.url).name
    raise DataError(f"{image} in {name} is damaged or was changed; copy or pack it again")


def open_copy(shard: Shard) -> IO[bytes]:
    """Open the contents of a shard's images, after they were copied to the cache if need be.

    Raises:
        TametailError: it cannot be copied, or there is no room.
    """
    with suppress(FileNotFoundError):
        return regular(shard.copy).open("rb")
    if shard.in_place:
        raise TametailError(
            f"expected a {shard.kind} archive at {shard.url}, but it is gone; read the data again"
        )
    # One shard at a time, also of several processes: together they would need more than the room that each has made.
    with explain_cache_error(shard.copy.parent), cache_lock(shard.copy.parent, "copying"), _locked(shard):
        with suppress(FileNotFoundError):  # made meanwhile
            return regular(shard.copy).open("rb")
        make_room(shard.bytes, keep=used_here, advice=_ADVICE)
        if is_url(shard.url):
            current_console().say(f"Copying {shard.url} ({shard.bytes / 1e9:.3g} GB) to the cache")
        with atomic_path(shard.copy) as temporary, temporary.open("wb") as copy:
            members = list(_contents(shard, _Bounded(copy, shard.bytes)))
            if shard.kind == "parquet":  # before the copy appears, as others may use it at once
                write_index(shard, members)
        # Opened while the lock is held, so that no other process can remove it before.
        return shard.copy.open("rb")


def _locked(shard: Shard) -> AbstractContextManager[None]:
    return cache_lock(shard.copy.parent, shard.copy.stem)


class _Bounded:
    """A file to which more than expected is written only where the cache has room for it."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self._file, self._room, self.written = file, room, 0

    def write(self, content: bytes) -> None:
        if self.written + len(content) > self._room:
            make_room(self.written + max(len(content), _BATCH_BYTES), keep=used_here, advice=_ADVICE)
            self._room = self.written + max(len(content), _BATCH_BYTES)
        self._file.write(content)
        self.written += len(content)


def _contents(shard: Shard, copy: _Bounded) -> Iterator[ImageMember]:
    """Write the contents of a shard, and yield where the images are, of a Parquet file."""
    import pyarrow.parquet as pq

    with explain_source(shard.url, TametailError):
        system, path = file_system(shard.url)
        with system.open(path, "rb") as source:
            if shard.kind != "parquet":
                while content := source.read(_BLOCK):
                    if copy.written + len(content) > shard.bytes:
                        break
                    copy.write(content)
                if content or copy.written != shard.bytes:
                    raise TametailError(
                        f"expected {shard.bytes:,} bytes at {shard.url}, as listed, but it has another length; read the data again"
                    )
                return
            with pq.ParquetFile(source) as file:
                largest = max(
                    (parquet_image_bytes(file, group) for group in range(file.num_row_groups)), default=1
                )
                # A batch is in memory, and each of its images can be as large as all of its row group together.
                batches = file.iter_batches(
                    batch_size=min(max(_BATCH_BYTES // max(largest, 1), 1), 64),
                    columns=["image", IMAGE_BYTES, IMAGE_DIGEST],
                )
                for batch in batches:
                    for image, content, digest in zip(*(column.to_pylist() for column in batch), strict=True):
                        yield ImageMember(image, copy.written, len(content), digest)
                        copy.write(content)


def parquet_image_bytes(file: Any, group: int) -> int:
    """Bytes of the images in a row group of a Parquet file, by its metadata.

    Raises:
        DataError: they are more than can be read.
    """
    described = file.metadata.row_group(group)
    columns = (described.column(number) for number in range(described.num_columns))
    size: int = sum(
        max(column.total_uncompressed_size, 0) for column in columns if column.path_in_schema == IMAGE_BYTES
    )
    if size > MAX_IMAGE_BYTES:
        raise DataError(
            f"expected at most {MAX_IMAGE_BYTES:,} bytes of images in a row group, found {size:,}; pack the data again"
        )
    return size


def write_index(shard: Shard, members: Sequence[ImageMember]) -> None:
    """Remember where the images of a shard are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(zip(*members, strict=True)) or [()] * len(ImageMember._fields)
    kinds = (pa.string(), pa.int64(), pa.int64(), pa.string(), pa.string())
    arrays = [pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)]
    shard.index.parent.mkdir(parents=True, exist_ok=True)
    with explain_cache_error(shard.index.parent), atomic_path(shard.index) as temporary:
        pq.write_table(pa.table(arrays, names=list(ImageMember._fields)), temporary)


def read_index(shard: Shard) -> list[ImageMember] | None:
    """What `write_index` wrote; None if there is nothing."""
    if not shard.index.exists():
        return None
    columns = _read(shard.index, list(ImageMember._fields))
    return [ImageMember(*row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]


def tar_images(file: IO[bytes], name: str) -> Iterator[TarMember]:
    """The members of an archive of tametail pack that are images."""
    for member in tar_members(file, name):
        if not member.name.endswith(SIDECARS):
            yield member


def _members(root: Path, shard: Shard) -> dict[str, ImageMember]:
    try:
        written = os.stat(shard.index).st_mtime_ns
    except OSError:
        _build_index(root, shard)
        written = os.stat(shard.index).st_mtime_ns
    return _indexed(shard, shard.index, written)


@lru_cache(maxsize=4)
def _indexed(shard: Shard, index: Path, written: int) -> dict[str, ImageMember]:
    with suppress(OSError):
        if not shard.in_place:
            os.utime(shard.copy)  # for make_room
    return {member.image: member for member in read_index(shard) or ()}


def _build_index(root: Path, shard: Shard) -> None:
    """The index of an archive of tametail pack, whose images are in the order of the table; of Parquet with a new copy."""
    if shard.kind == "parquet":
        with _locked(shard):
            remove(shard.copy)
        open_copy(shard).close()
        return
    if shard.kind == "zip":
        raise TametailError(f"expected {shard.index}, but it is gone; read the data again")
    columns = _read(root / _IMAGES, ["image", "digest"]).slice(shard.start, shard.rows)
    known = list(zip(columns["image"].to_pylist(), columns["digest"].to_pylist(), strict=True))
    with open_copy(shard) as file:
        found = list(tar_images(file, shard.url))
    if len(found) != len(known):
        raise TametailError(
            f"expected {len(known):,} images in {shard.url}, found {len(found):,}; copy or pack the data again"
        )
    write_index(
        shard,
        [
            ImageMember(image, member.offset, member.size, digest)
            for member, (image, digest) in zip(found, known, strict=True)
        ],
    )


def _read(path: Path, columns: list[str]) -> Any:
    try:
        with open_parquet(path) as file:
            return file.read(columns)
    except (OSError, ValueError) as error:
        raise TametailError(f"{path} is damaged ({error}); remove it, and read the data again") from error
