"""Cache of decoded images: the pixels of a table in memory-mapped files of about 1 GiB, called shards.

The key of a shard is a digest of its files, the size, the bit depth and the version of the decoder, so that entries are never
stale. Each is built, verified, evicted and decoded again on its own. Digests of files are cached by path, size, times and inode.
Checksums detect damage on the disk.
Shape legend: N images, M readable ones, S side in pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray, IntArray
from tametail.core.atomic import atomic_path, write_atomically
from tametail.core.errors import DataError, TametailError
from tametail.core.regular_file import regular
from tametail.core.removal import remove
from tametail.data.decoding.bit_depth import BitDepth, find_bit_depth
from tametail.data.decoding.cache_folder import (
    cache_dir,
    cache_lock,
    explain_cache_error,
    make_room,
    mark_used,
    reserved,
)
from tametail.data.decoding.decode import decode_image
from tametail.data.decoding.shards import packed_digests, packed_room
from tametail.data.row_store import ArrayRows, RowStore
from tametail.data.table import ImageTable

__all__ = ["ChunkSettings", "DecodedImages", "cache_dir", "decoded_images"]

DECODER_VERSION = 3  # increase it whenever decode_image returns other pixels
_HEADER = 128  # bytes of the .npy header, enough for any number of rows
_log = logging.getLogger(__name__)
UNREADABLE = "unreadable"  # in place of the digest


@dataclass(frozen=True)
class ChunkSettings:
    """Sizes of the chunks in which images are decoded and verified.

    Attributes:
        images: most images per checksum and per call of ``advance``.
        bytes: most bytes of a chunk; two chunks are in memory at a time.
        verify_all: bytes of pixels of a table up to which all checksums are verified.
        sampled: number of chunks verified of larger tables, in addition to the first and the last.
        shard: most bytes of pixels in a file, which has at least one image.
    """

    images: int = 256
    bytes: int = 64_000_000
    verify_all: int = 4_000_000_000
    sampled: int = 64
    shard: int = 2**30


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """The decoded images of a table.

    Attributes:
        pixels: (M, S, S, 3) uint8 RGB of the readable images in table order, in memory-mapped shards.
        readable: (N,) which images of the table could be decoded.
        errors: image id → reason, of the others.
        digests: N content digests; equal files have equal digests.
        bit_depth: at which grey images of more than 8 bits were read.
        notes: image id → what is odd about a file that could be read.
        key: hex digest of everything that the pixels depend on.
        shards: keys of the files in the cache.
    """

    pixels: RowStore
    readable: BoolArray
    errors: dict[str, str]
    digests: tuple[str, ...]
    bit_depth: BitDepth
    notes: dict[str, str]
    key: str
    shards: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class _Shard:
    """Images of a table from row ``start`` on, in one file; ``verified`` are those whose chunks are verified, None for all."""

    folder: Path
    key: str
    start: int
    images: Sequence[str]
    size: int
    verified: IntArray | None

    @property
    def pixels(self) -> Path:
        return self.folder / f"{self.key}.npy"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.key}.json"

    @property
    def image_bytes(self) -> int:
        return self.size * self.size * 3

    @property
    def missing(self) -> int:
        """Bytes that are still to be written, if all images are readable."""
        return 0 if self.record.exists() else _HEADER + len(self.images) * self.image_bytes


@dataclass(frozen=True, eq=False)
class _Stored:
    """A shard in the cache: pixels, row → reason of the others, row → note."""

    pixels: NDArray[np.uint8]
    reasons: dict[int, str]
    notes: dict[int, str]


def decoded_images(
    table: ImageTable,
    size: int,
    *,
    advance: Callable[[int], None] | None = None,
    chunks: ChunkSettings = ChunkSettings(),
) -> DecodedImages:
    """Decode all images of a table to squares of ``size`` pixels, or load them from the cache.

    Cached pixels are verified by checksums, and the shards in which they differ are decoded again, with a warning in the log.
    Of tables above 4 GB only the first, the last and 64 evenly spaced chunks are verified. Before decoding, `make_room` removes
    old entries.

    Args:
        table: N images; with ``table.bit_depth`` None the depth is decided from all of them.
        size: S, see `decode_image`.
        advance: progress callback, called with the number of images processed since the last call.
        chunks: sizes of chunks and shards; the pixels do not depend on them.

    Raises:
        DataError: no image is readable.
        TametailError: the cache folder cannot be written, or the pixels do not fit on its disk or into its limit.
        UsageError: see `cache_limit`.
    """
    images = table.frame["image"].tolist()
    folder = cache_dir() / "decoded"
    stored: list[_Stored] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = content_digests(table.root, images, pool, cache_dir() / "digests.sqlite")
        depth = _bit_depth(pool, table, digests)
        shards = _shards(folder, images, digests, size, depth, chunks)
        keys = frozenset(shard.key for shard in shards)
        for number, shard in enumerate(shards):
            with explain_cache_error(folder), cache_lock(folder, shard.key):
                found = _load(pool, shard)
                if found is None:
                    for damaged in (shard.record, shard.pixels):  # they must not take up space
                        remove(damaged)
                    missing = sum(later.missing for later in shards[number:])
                    make_room(missing + packed_room(table.root), keep=keys)
                    with reserved(shard.missing):
                        _build(pool, table.root, shard, depth, advance, chunks)
                    found = _load(pool, shard)
                elif advance is not None:
                    advance(len(shard.images))
                mark_used(shard.record)
            if found is None:
                raise TametailError(
                    f"the decoded images in {folder} were changed while they were read; try again"
                )
            stored.append(found)
    pairs = list(zip(shards, stored, strict=True))
    errors = {shard.images[row]: why for shard, found in pairs for row, why in found.reasons.items()}
    if len(errors) == len(images):
        for shard in shards:
            remove(shard.record)
            remove(shard.pixels)
        shown = "; ".join(f"{Path(image).name}: {why}" for image, why in list(errors.items())[:3])
        raise DataError(f"expected images, but nothing is readable: all {len(images)} files fail ({shown})")
    notes = {shard.images[row]: note for shard, found in pairs for row, note in found.notes.items()}
    readable = _readable(len(images), (shard.start + row for shard, found in pairs for row in found.reasons))
    pixels = ArrayRows([found.pixels for found in stored])
    key = _key(digests, size, depth.bits or 0)
    return DecodedImages(pixels, readable, errors, digests, depth, notes, key, keys)


def _shards(
    folder: Path,
    images: Sequence[str],
    digests: Sequence[str],
    size: int,
    depth: BitDepth,
    chunks: ChunkSettings,
) -> list[_Shard]:
    """The shards of a table. Their keys do not depend on the rest of it."""
    rows, image_bytes = len(images), size * size * 3
    sampled = np.linspace(0, max(rows - 1, 0), chunks.sampled + 2).astype(np.int64)
    every = max(chunks.shard // image_bytes, 1)
    found = []
    for start in range(0, max(rows, 1), every):
        own = slice(start, start + every)
        verified = sampled[(sampled >= start) & (sampled < start + every)] - start
        key = _key(digests[own], size, depth.bits or 0)
        all_of_them = rows * image_bytes <= chunks.verify_all
        found.append(_Shard(folder, key, start, images[own], size, None if all_of_them else verified))
    return found


def table_bit_depth(table: ImageTable) -> BitDepth:
    """The depth at which `decoded_images` reads the grey images of a table, without decoding the others."""
    return table_contents(table)[1]


def table_contents(table: ImageTable) -> tuple[tuple[str, ...], BitDepth]:
    """The digests of the files of a table, see `content_digests`, and `table_bit_depth`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = table.frame["image"].tolist()
        digests = content_digests(table.root, images, pool, cache_dir() / "digests.sqlite")
        return digests, _bit_depth(pool, table, digests)


def _bit_depth(pool: Executor, table: ImageTable, digests: Sequence[str]) -> BitDepth:
    """See `find_bit_depth`; remembered, as it reads every file that could be of more than 8 bits."""
    folder = cache_dir() / "bit_depth"
    path = folder / f"{_key(sorted(digests))}.json"  # whatever their order
    try:
        found = BitDepth.from_dict(json.loads(regular(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        found = find_bit_depth(table.paths, pool)
        with suppress(OSError):  # the record only saves time
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(found.as_dict()))
    return found.read_as(table.bit_depth)


def _key(digests: Sequence[str], *others: int) -> str:
    """Digest of the JSON of contents and of what else an entry depends on (by hand: json.dumps takes 100 bytes per image)."""
    listed = '", "'.join(digests)
    described = f'[{", ".join(map(str, (DECODER_VERSION, *others)))}, ["{listed}"]]'
    return hashlib.sha256(described.encode()).hexdigest()[:40]


def _readable(rows: int, reasons: Iterable[int]) -> BoolArray:
    """(N,) all but those with a reason."""
    readable = np.ones(rows, dtype=np.bool_)
    readable[list(reasons)] = False
    return readable


def _load(pool: Executor, shard: _Shard) -> _Stored | None:
    """None if the shard is absent or damaged."""
    if not shard.record.exists():
        return None
    rows, size = len(shard.images), shard.size
    try:
        record = json.loads(regular(shard.record).read_text(encoding="utf-8"))
        reasons, notes = (
            {int(row): str(text) for row, text in record[name].items()} for name in ("errors", "notes")
        )
        if shard.pixels.stat().st_size != record["bytes"]:
            raise ValueError("its length has changed")
        pixels: NDArray[np.uint8] = np.load(shard.pixels, mmap_mode="r")
        if pixels.shape != (rows - len(reasons), size, size, 3) or pixels.dtype != np.uint8:
            raise ValueError("its shape has changed")
        readable = _readable(rows, reasons)
        if not _agree(pool, pixels, readable, record["chunk"], record["checksums"], shard.verified):
            raise ValueError("its checksums have changed")
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        _log.warning("The decoded images in %s are damaged (%s) and are decoded again.", shard.pixels, error)
        return None
    return _Stored(pixels, reasons, notes)


def _agree(
    pool: Executor,
    pixels: NDArray[np.uint8],
    readable: BoolArray,
    chunk: int,
    checksums: Sequence[str],
    verified: IntArray | None,
) -> bool:
    """Whether the pixels match the checksums, of which there is one per ``chunk`` rows, in the chunks of some rows."""
    # Where each row of the table begins in the pixels; unreadable rows have none.
    offsets = np.concatenate([[0], np.cumsum(readable)])
    starts = np.arange(0, len(readable), chunk)
    if len(starts) != len(checksums):
        return False

    def agrees(number: int) -> bool:
        first, last = offsets[[starts[number], min(starts[number] + chunk, len(readable))]]
        return _checksum([pixels[first:last]]) == checksums[number]

    numbers = np.arange(len(starts)) if verified is None else np.unique(verified // chunk)
    return all(pool.map(agrees, numbers.tolist()))


def _checksum(blocks: Iterable[NDArray[np.uint8]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for block in blocks:
        digest.update(block.data)
    return digest.hexdigest()


def _build(
    pool: Executor,
    root: Path,
    shard: _Shard,
    depth: BitDepth,
    advance: Callable[[int], None] | None,
    chunks: ChunkSettings,
) -> None:
    rows, size = len(shard.images), shard.size
    chunk = min(chunks.images, max(chunks.bytes // shard.image_bytes, 1))
    reasons: dict[int, str] = {}
    notes: dict[int, str] = {}
    checksums: list[str] = []
    with atomic_path(shard.pixels) as temporary, temporary.open("wb") as file:
        file.write(bytes(_HEADER))
        for start, decoded in _decoded_chunks(pool, root, shard.images, size, depth.bits, chunk):
            checksums.append(_checksum(_written(file, decoded, start, reasons, notes)))
            if advance is not None:
                advance(min(chunk, rows - start))
        file.seek(0)
        file.write(_npy_header((rows - len(reasons), size, size, 3)))
    described = {
        "bytes": shard.pixels.stat().st_size,
        "errors": reasons,
        "notes": notes,
        "chunk": chunk,
        "checksums": checksums,
    }
    with atomic_path(shard.record) as temporary:  # last: without it the pixels do not count
        temporary.write_text(json.dumps(described), encoding="utf-8")


_Decoded = tuple[NDArray[np.uint8] | str, str]  # pixels, or the reason why there are none, and a note


def _decoded_chunks(
    pool: Executor, root: Path, images: Sequence[str], size: int, bit_depth: int | None, chunk: int
) -> Iterator[tuple[int, Iterable[_Decoded]]]:
    """First row and the images of each chunk, while the pool decodes the next one."""

    def decoded(image: str) -> _Decoded:
        notes: list[str] = []
        try:
            pixels = decode_image(root / image, size, bit_depth=bit_depth, notes=notes)
        except DataError as error:
            return str(error), ""
        return pixels, "; ".join(notes)

    start = 0
    waiting: Iterable[_Decoded] = ()
    for start in range(0, len(images), chunk):
        submitted = pool.map(decoded, images[start : start + chunk])
        if start:
            yield start - chunk, waiting
        waiting = submitted
    yield start, waiting


def _written(
    file: IO[bytes],
    decoded: Iterable[_Decoded],
    start: int,
    reasons: dict[int, str],
    notes: dict[int, str],
) -> Iterator[NDArray[np.uint8]]:
    """Write the pixels of consecutive rows, record notes and the reasons of those without, and yield the pixels."""
    for row, (image, note) in enumerate(decoded, start=start):
        if isinstance(image, str):
            reasons[row] = image
        else:
            if note:
                notes[row] = note
            pixels = np.ascontiguousarray(image)
            file.write(pixels.data)
            yield pixels


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a uint8 .npy file, always ``_HEADER`` bytes, so that it can be written after the pixels."""
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    room = _HEADER - 10
    return np.lib.format.magic(1, 0) + room.to_bytes(2, "little") + described.ljust(room - 1).encode() + b"\n"


def content_digests(
    root: Path,
    images: Sequence[str],
    pool: Executor,
    memory: Path,
    *,
    window: int = 4096,
    settled: float = 2.0,
) -> tuple[str, ...]:
    """BLAKE2b digest (32 hex digits) of the content of each file, or ``"unreadable"``; files are read in pieces.

    Args:
        root: folder that the N ``images`` are relative to.
        pool: threads for reading.
        memory: database of known digests; if it cannot be used, all files are read.
        window: files at a time, which bounds the memory.
        settled: age in seconds below which a file is read again, as it may change without a change of its time stamps.
    """
    if (packed := packed_digests(root)) is not None:
        return tuple(packed.get(image, UNREADABLE) for image in images)
    digests: list[str] = []
    for start in range(0, len(images), window):
        paths = [root / image for image in images[start : start + window]]
        states = [_state(path, settled) for path in paths]
        known = _recall(memory, states)
        unknown = [row for row, state in enumerate(states) if state not in known]
        fresh = dict(zip(unknown, pool.map(_digest, [paths[row] for row in unknown]), strict=True))
        digests += [fresh[row] if row in fresh else known[state] for row, state in enumerate(states)]
        # Only if the state is the same after reading does it belong to the content that was read.
        unchanged = [row for row in unknown if states[row] and states[row] == _state(paths[row], settled)]
        _remember(memory, ((states[row], fresh[row]) for row in unchanged))
    return tuple(digests)


def _state(path: Path, settled: float) -> bytes:
    """Digest of what changes with the file; empty if a change could go undetected."""
    try:
        status = os.stat(path)
    except OSError:
        return b""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < settled * 1e9:
        return b""
    facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    return hashlib.blake2b(repr((os.path.abspath(path), *facts)).encode(), digest_size=16).digest()


def _digest(path: Path) -> str:
    try:
        with open(regular(path), "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return UNREADABLE


def _recall(memory: Path, states: Iterable[bytes]) -> dict[bytes, str]:
    if not memory.is_file():
        return {}
    found = {}
    try:
        with closing(sqlite3.connect(memory)) as database:
            for state in filter(None, states):
                row = database.execute("SELECT digest FROM known WHERE state = ?", (state,)).fetchone()
                if row:
                    found[state] = bytes(row[0]).hex()
    except (sqlite3.Error, TypeError):
        return {}
    return found


def _remember(memory: Path, pairs: Iterable[tuple[bytes, str]]) -> None:
    rows = [(state, bytes.fromhex(digest)) for state, digest in pairs if digest != UNREADABLE]
    if not rows:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(memory)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS known (state BLOB PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID"
            )
            database.executemany("INSERT OR REPLACE INTO known VALUES (?, ?)", rows)
    except (sqlite3.Error, OSError):
        return  # the database only saves time
