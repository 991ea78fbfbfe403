"""Decode once, read many: the pixels of a table's images in one file on disk, named by their content.

The key is made of the digests of all files, the size and the version of the decoder, so what is found under it is
never stale. Checksums find what the disk has damaged. Files appear in one step; whoever is killed leaves nothing that
is taken for finished. No more than a window of images is in memory, however many there are.
Shape legend: N images, M readable ones, S side in pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError, TametailError
from tametail.data.decoding.cache_folder import cache_dir, explained, lock, make_room, mark_used
from tametail.data.decoding.decode import decode_image
from tametail.data.decoding.digests import content_digests
from tametail.data.table import ImageTable

__all__ = ["DecodedImages", "cache_dir", "decoded_images"]

DECODER_VERSION = 2  # raise it whenever decode_image gives other pixels
_HEADER = 128  # bytes of the .npy header, room for any number of rows
_CHUNK = 256  # images of one checksum, and of one call of advance
_CHUNK_BYTES = 64_000_000  # fewer of large images: two chunks are in memory at a time
_ALL_CHECKED = 4_000_000_000  # bytes up to which every checksum is looked at
_SPREAD = 64
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """The images of a table, decoded.

    Attributes:
        pixels: (M, S, S, 3) uint8 RGB of the readable images in table order, memory-mapped.
        readable: (N,) which images of the table these are.
        errors: image id → reason, of the others.
        digests: N content digests; equal files have equal ones.
        key: hex digest of all that the pixels depend on.
    """

    pixels: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    errors: dict[str, str]
    digests: tuple[str, ...]
    key: str


def decoded_images(
    table: ImageTable, size: int, *, advance: Callable[[int], None] | None = None
) -> DecodedImages:
    """Decode all images of a table to squares of ``size`` pixels, or find them decoded.

    Found pixels are held against the checksums they were written with, and decoded again, with a warning in the log,
    if they differ. Of files above 4 GB the first, the last and 64 chunks spread between them are looked at, so that a
    start does not read 100 GB; a fault between those stays unseen.

    Before decoding, what was unused for longest leaves the cache until the pixels fit, see `make_room`.

    Args:
        table: N images.
        size: S, see `decode_image`.
        advance: called with the number of images done since the last call; they sum to N.

    Raises:
        DataError: no image is readable.
        TametailError: the cache folder cannot be written, or the pixels do not fit on its disk or into its limit.
        UsageError: the limit makes no sense.
    """
    images = table.frame["image"].tolist()
    folder = cache_dir() / "decoded"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = content_digests(table.root, images, pool, cache_dir() / "digests.sqlite")
        key = _key(size, digests)
        with explained(folder), lock(folder, key):
            found = _load(pool, folder, key, size, len(images))
            if found is None:
                _build(pool, table.root, images, size, folder, key, advance)
                found = _load(pool, folder, key, size, len(images))
            elif advance is not None:
                advance(len(images))
            mark_used(folder / f"{key}.json")
    if found is None:
        raise TametailError(f"the decoded images in {folder} were changed while they were read; try again")
    pixels, reasons = found
    errors = {images[row]: why for row, why in reasons.items()}
    return DecodedImages(pixels, _readable(len(images), reasons), errors, digests, key)


def _key(size: int, digests: Sequence[str]) -> str:
    """Digest of the JSON of all that the pixels depend on (put together here: json.dumps takes 100 bytes per image)."""
    listed = '", "'.join(digests)
    described = f'[{DECODER_VERSION}, {size}, ["{listed}"]]'
    return hashlib.sha256(described.encode()).hexdigest()[:40]


def _readable(rows: int, reasons: Iterable[int]) -> NDArray[np.bool_]:
    """(N,) all but those with a reason."""
    readable = np.ones(rows, dtype=np.bool_)
    readable[list(reasons)] = False
    return readable


def _load(
    pool: Executor, folder: Path, key: str, size: int, rows: int
) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """(pixels, row → reason), or None if they are not there, or not as they were written."""
    pixels, record = folder / f"{key}.npy", folder / f"{key}.json"
    if not record.exists():
        return None
    try:
        return _checked(pool, pixels, json.loads(record.read_text(encoding="utf-8")), size, rows)
    except (
        FileNotFoundError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        EOFError,
    ) as error:
        _log.warning("The decoded images in %s are damaged (%s) and are made again.", pixels, error)
        return None


def _checked(
    pool: Executor, path: Path, record: dict[str, Any], size: int, rows: int
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """(pixels, row → reason) of a file that is as its record says; any mismatch is one of `_load`'s errors."""
    reasons = {int(row): str(why) for row, why in record["errors"].items()}
    if path.stat().st_size != record["bytes"]:
        raise ValueError("its length is not the one it was written with")
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    if pixels.shape != (rows - len(reasons), size, size, 3) or pixels.dtype != np.uint8:
        raise ValueError("its shape is not the one it was written with")
    if not _agree(pool, pixels, _readable(rows, reasons), record["chunk"], record["checksums"]):
        raise ValueError("its checksums are not those it was written with")
    return pixels, reasons


def _agree(
    pool: Executor,
    pixels: NDArray[np.uint8],
    readable: NDArray[np.bool_],
    chunk: int,
    checksums: Sequence[str],
) -> bool:
    """Whether the pixels are those that the checksums were taken of; one per ``chunk`` rows of the table."""
    # Where each row of the table begins among the pixels: unreadable rows have none.
    places = np.concatenate([[0], np.cumsum(readable)])
    starts = np.arange(0, len(readable), chunk)
    if len(starts) != len(checksums):
        return False
    looked_at = np.arange(len(starts))
    if pixels.nbytes > _ALL_CHECKED:
        looked_at = np.unique(np.linspace(0, len(starts) - 1, _SPREAD + 2).astype(np.int64))

    def agrees(number: int) -> bool:
        first, last = places[[starts[number], min(starts[number] + chunk, len(readable))]]
        return _checksum([pixels[first:last]]) == checksums[number]

    return all(pool.map(agrees, looked_at.tolist()))


def _checksum(blocks: Iterable[NDArray[np.uint8]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for block in blocks:
        digest.update(block.data)
    return digest.hexdigest()


def _build(
    pool: Executor,
    root: Path,
    images: Sequence[str],
    size: int,
    folder: Path,
    key: str,
    advance: Callable[[int], None] | None,
) -> None:
    rows, image_bytes = len(images), size * size * 3
    chunk = min(_CHUNK, max(_CHUNK_BYTES // image_bytes, 1))
    record, pixels = folder / f"{key}.json", folder / f"{key}.npy"
    record.unlink(missing_ok=True)  # what is damaged must not take up the room that is looked for
    pixels.unlink(missing_ok=True)
    make_room(_HEADER + rows * image_bytes, keep={key})
    reasons: dict[int, str] = {}
    checksums: list[str] = []
    with atomic_path(pixels, lock=True) as temporary, temporary.open("wb") as file:
        file.write(bytes(_HEADER))
        for start, decoded in _decoded_chunks(pool, root, images, size, chunk):
            checksums.append(_checksum(_written(file, decoded, start, reasons)))
            if advance is not None:
                advance(min(chunk, rows - start))
        if len(reasons) == rows:
            raise DataError(_nothing_readable(images, reasons))
        file.seek(0)
        file.write(_npy_header((rows - len(reasons), size, size, 3)))
    described = {
        "bytes": pixels.stat().st_size,
        "errors": reasons,
        "chunk": chunk,
        "checksums": checksums,
    }
    with atomic_path(record, lock=True) as temporary:  # it comes last: without it the pixels do not count
        temporary.write_text(json.dumps(described), encoding="utf-8")


def _decoded_chunks(
    pool: Executor, root: Path, images: Sequence[str], size: int, chunk: int
) -> Iterator[tuple[int, Iterable[NDArray[np.uint8] | str]]]:
    """First row and pixels of each chunk in turn, while the pool decodes the next."""

    def decoded(image: str) -> NDArray[np.uint8] | str:
        return _try_decode(root / image, size)

    return _one_ahead(
        (start, pool.map(decoded, images[start : start + chunk])) for start in range(0, len(images), chunk)
    )


def _one_ahead(items: Iterable[_T]) -> Iterator[_T]:
    """The same items, each given when the next has been taken."""
    waiting: list[_T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == 2:
            yield waiting.pop(0)
    yield from waiting


def _written(
    file: IO[bytes], decoded: Iterable[NDArray[np.uint8] | str], start: int, reasons: dict[int, str]
) -> Iterator[NDArray[np.uint8]]:
    """Write the pixels of consecutive rows, keep the reasons of those without, and pass the pixels on."""
    for row, image in enumerate(decoded, start=start):
        if isinstance(image, str):
            reasons[row] = image
        else:
            pixels = np.ascontiguousarray(image)
            file.write(pixels.data)
            yield pixels


def _try_decode(path: Path, size: int) -> NDArray[np.uint8] | str:
    try:
        return decode_image(path, size)
    except DataError as error:
        return str(error)


def _nothing_readable(images: Sequence[str], reasons: dict[int, str]) -> str:
    shown = "; ".join(f"{Path(images[row]).name}: {why}" for row, why in list(reasons.items())[:3])
    return f"expected images, but nothing is readable: all {len(images)} files fail ({shown})"


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a uint8 .npy file, always ``_HEADER`` bytes, so that it can be written after the pixels."""
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    room = _HEADER - 10
    return np.lib.format.magic(1, 0) + room.to_bytes(2, "little") + described.ljust(room - 1).encode() + b"\n"
