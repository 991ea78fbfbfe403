"""Cache of decoded images: the pixels of a table in one memory-mapped file.

The key is a digest of all files, the size and the version of the decoder, so that entries are never stale. Checksums
detect damage on the disk. Files are written atomically. Memory does not grow with the number of images.
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

from tametail.core.arrays import BoolArray
from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError, TametailError
from tametail.data.decoding.cache_folder import (
    cache_dir,
    cache_lock,
    explain_cache_error,
    make_room,
    mark_used,
)
from tametail.data.decoding.decode import decode_image
from tametail.data.decoding.digests import content_digests
from tametail.data.table import ImageTable

__all__ = ["ChunkSettings", "DecodedImages", "cache_dir", "decoded_images"]

DECODER_VERSION = 2  # increase it whenever decode_image returns other pixels
_HEADER = 128  # bytes of the .npy header, enough for any number of rows
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class ChunkSettings:
    """Sizes of the chunks in which images are decoded and verified.

    Attributes:
        images: most images per checksum and per call of ``advance``.
        bytes: most bytes of a chunk; two chunks are in memory at a time.
        verify_all: size of a file in bytes up to which all checksums are verified.
        sampled: number of chunks verified of larger files, in addition to the first and the last.
    """

    images: int = 256
    bytes: int = 64_000_000
    verify_all: int = 4_000_000_000
    sampled: int = 64


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """The decoded images of a table.

    Attributes:
        pixels: (M, S, S, 3) uint8 RGB of the readable images in table order, memory-mapped.
        readable: (N,) which images of the table could be decoded.
        errors: image id → reason, of the others.
        digests: N content digests; equal files have equal digests.
        key: hex digest of everything that the pixels depend on.
    """

    pixels: NDArray[np.uint8]
    readable: BoolArray
    errors: dict[str, str]
    digests: tuple[str, ...]
    key: str


def decoded_images(
    table: ImageTable,
    size: int,
    *,
    advance: Callable[[int], None] | None = None,
    chunks: ChunkSettings = ChunkSettings(),
) -> DecodedImages:
    """Decode all images of a table to squares of ``size`` pixels, or load them from the cache.

    Cached pixels are verified by checksums, and decoded again, with a warning in the log, if they differ. Of files above
    4 GB only the first, the last and 64 evenly spaced chunks are verified, so that a start does not read 100 GB.

    Before decoding, the least recently used entries are removed from the cache until the pixels fit, see `make_room`.

    Args:
        table: N images.
        size: S, see `decode_image`.
        advance: progress callback, called with the number of images processed since the last call.
        chunks: sizes of chunks; the pixels do not depend on them.

    Raises:
        DataError: no image is readable.
        TametailError: the cache folder cannot be written, or the pixels do not fit on its disk or into its limit.
        UsageError: the limit is invalid.
    """
    images = table.frame["image"].tolist()
    folder = cache_dir() / "decoded"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = content_digests(table.root, images, pool, cache_dir() / "digests.sqlite")
        key = _key(size, digests)
        with explain_cache_error(folder), cache_lock(folder, key):
            found = _load(pool, folder, key, size, len(images), chunks)
            if found is None:
                _build(pool, table.root, images, size, folder, key, advance, chunks)
                found = _load(pool, folder, key, size, len(images), chunks)
            elif advance is not None:
                advance(len(images))
            mark_used(folder / f"{key}.json")
    if found is None:
        raise TametailError(f"the decoded images in {folder} were changed while they were read; try again")
    pixels, reasons = found
    errors = {images[row]: why for row, why in reasons.items()}
    return DecodedImages(pixels, _readable(len(images), reasons), errors, digests, key)


def _key(size: int, digests: Sequence[str]) -> str:
    """Digest of the JSON of all that the pixels depend on (built by hand: json.dumps takes 100 bytes per image)."""
    listed = '", "'.join(digests)
    described = f'[{DECODER_VERSION}, {size}, ["{listed}"]]'
    return hashlib.sha256(described.encode()).hexdigest()[:40]


def _readable(rows: int, reasons: Iterable[int]) -> BoolArray:
    """(N,) all but those with a reason."""
    readable = np.ones(rows, dtype=np.bool_)
    readable[list(reasons)] = False
    return readable


def _load(
    pool: Executor, folder: Path, key: str, size: int, rows: int, chunks: ChunkSettings
) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """Pixels, and row → reason; None if they are absent or damaged."""
    pixels, record = folder / f"{key}.npy", folder / f"{key}.json"
    if not record.exists():
        return None
    try:
        return _checked(pool, pixels, json.loads(record.read_text(encoding="utf-8")), size, rows, chunks)
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        _log.warning("The decoded images in %s are damaged (%s) and are decoded again.", pixels, error)
        return None


def _checked(
    pool: Executor, path: Path, record: dict[str, Any], size: int, rows: int, chunks: ChunkSettings
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Pixels, and row → reason, of a file that matches its record; a mismatch raises one of the errors in `_load`."""
    reasons = {int(row): str(why) for row, why in record["errors"].items()}
    if path.stat().st_size != record["bytes"]:
        raise ValueError("its length has changed")
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    if pixels.shape != (rows - len(reasons), size, size, 3) or pixels.dtype != np.uint8:
        raise ValueError("its shape has changed")
    if not _agree(pool, pixels, _readable(rows, reasons), record["chunk"], record["checksums"], chunks):
        raise ValueError("its checksums have changed")
    return pixels, reasons


def _agree(
    pool: Executor,
    pixels: NDArray[np.uint8],
    readable: BoolArray,
    chunk: int,
    checksums: Sequence[str],
    chunks: ChunkSettings,
) -> bool:
    """Whether the pixels match the checksums, of which there is one per ``chunk`` rows of the table."""
    # Where each row of the table begins in the pixels; unreadable rows have none.
    offsets = np.concatenate([[0], np.cumsum(readable)])
    starts = np.arange(0, len(readable), chunk)
    if len(starts) != len(checksums):
        return False
    verified = np.arange(len(starts))
    if pixels.nbytes > chunks.verify_all:
        verified = np.unique(np.linspace(0, len(starts) - 1, chunks.sampled + 2).astype(np.int64))

    def agrees(number: int) -> bool:
        first, last = offsets[[starts[number], min(starts[number] + chunk, len(readable))]]
        return _checksum([pixels[first:last]]) == checksums[number]

    return all(pool.map(agrees, verified.tolist()))


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
    chunks: ChunkSettings,
) -> None:
    rows, image_bytes = len(images), size * size * 3
    chunk = min(chunks.images, max(chunks.bytes // image_bytes, 1))
    record, pixels = folder / f"{key}.json", folder / f"{key}.npy"
    record.unlink(missing_ok=True)  # damaged files must not take up space
    pixels.unlink(missing_ok=True)
    make_room(_HEADER + rows * image_bytes, keep={key})
    reasons: dict[int, str] = {}
    checksums: list[str] = []
    with atomic_path(pixels, exclusive=True) as temporary, temporary.open("wb") as file:
        file.write(bytes(_HEADER))
        for start, decoded in _decoded_chunks(pool, root, images, size, chunk):
            checksums.append(_checksum(_written(file, decoded, start, reasons)))
            if advance is not None:
                advance(min(chunk, rows - start))
        if len(reasons) == rows:
            raise DataError(_nothing_readable(images, reasons))
        file.seek(0)
        file.write(_npy_header((rows - len(reasons), size, size, 3)))
    described = {"bytes": pixels.stat().st_size, "errors": reasons, "chunk": chunk, "checksums": checksums}
    with atomic_path(record, exclusive=True) as temporary:  # last: without it the pixels do not count
        temporary.write_text(json.dumps(described), encoding="utf-8")


def _decoded_chunks(
    pool: Executor, root: Path, images: Sequence[str], size: int, chunk: int
) -> Iterator[tuple[int, Iterable[NDArray[np.uint8] | str]]]:
    """First row and pixels of each chunk, while the pool decodes the next one."""

    def decoded(image: str) -> NDArray[np.uint8] | str:
        return _try_decode(root / image, size)

    return _one_ahead(
        (start, pool.map(decoded, images[start : start + chunk])) for start in range(0, len(images), chunk)
    )


def _one_ahead(items: Iterable[_T]) -> Iterator[_T]:
    """The same items, each returned after the next one was requested."""
    waiting: list[_T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == 2:
            yield waiting.pop(0)
    yield from waiting


def _written(
    file: IO[bytes], decoded: Iterable[NDArray[np.uint8] | str], start: int, reasons: dict[int, str]
) -> Iterator[NDArray[np.uint8]]:
    """Write the pixels of consecutive rows, record the reasons of those without, and yield the pixels."""
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
