"""Decode once, read many: the pixels of a table's images in one file on disk, named by their content.

The key is made of the digests of all files, the size and the version of the decoder, so what is found under it is
never stale. Files appear in one step; whoever is killed leaves nothing that is taken for finished.
Shape legend: N images, M readable ones, S side in pixels.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tametail.data.decode import decode_image
from tametail.data.table import ImageTable
from tametail.errors import DataError, TametailError

DECODER_VERSION = 1  # raise it whenever decode_image gives other pixels
_HEADER = 128  # bytes of the .npy header, room for any number of rows
_CHUNK = 256  # images decoded between two writes: bounds the memory
_UNREADABLE = "unreadable"


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


def cache_dir() -> Path:
    """Folder for all that can be made again: ``TAMETAIL_CACHE``, or the system's folder for caches."""
    import platformdirs

    named = os.environ.get("TAMETAIL_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("tametail"))


def decoded_images(
    table: ImageTable, size: int, *, advance: Callable[[int], None] | None = None
) -> DecodedImages:
    """Decode all images of a table to squares of ``size`` pixels, or find them decoded.

    Args:
        table: N images.
        size: S, see `decode_image`.
        advance: called with the number of images done since the last call; they sum to N.

    Raises:
        DataError: no image is readable.
        TametailError: the cache folder cannot be written, or the disk is full.
    """
    paths = table.paths
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = tuple(pool.map(_digest, paths))
        key = hashlib.sha256(json.dumps([DECODER_VERSION, size, digests]).encode()).hexdigest()[:40]
        folder = cache_dir() / "decoded"
        with _explained(folder), _alone(folder, key):
            found = _load(folder, key, size, len(table))
            if found is None:
                _build(pool, paths, size, folder, key, advance)
                found = _load(folder, key, size, len(table))
            elif advance is not None:
                advance(len(table))
    if found is None:
        raise TametailError(f"the decoded images in {folder} were changed while they were read; try again")
    pixels, reasons = found
    images = table.images.tolist()
    readable = np.ones(len(table), dtype=np.bool_)
    readable[list(reasons)] = False
    return DecodedImages(pixels, readable, {images[row]: why for row, why in reasons.items()}, digests, key)


def _digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return _UNREADABLE


def _load(folder: Path, key: str, size: int, rows: int) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """(pixels, row → reason), or None if they are not there, or not as they were written."""
    path = folder / f"{key}.npy"
    try:
        record = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        reasons = {int(row): str(why) for row, why in record["errors"].items()}
        if path.stat().st_size != record["bytes"]:
            return None
        pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
    if pixels.shape != (rows - len(reasons), size, size, 3) or pixels.dtype != np.uint8:
        return None
    return pixels, reasons


def _build(
    pool: ThreadPoolExecutor,
    paths: Sequence[Path],
    size: int,
    folder: Path,
    key: str,
    advance: Callable[[int], None] | None,
) -> None:
    reasons: dict[int, str] = {}

    def write_pixels(file: IO[bytes]) -> None:
        file.write(bytes(_HEADER))
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            for row, decoded in enumerate(pool.map(lambda path: _try_decode(path, size), chunk), start=start):
                if isinstance(decoded, str):
                    reasons[row] = decoded
                else:
                    file.write(decoded.tobytes())
            if advance is not None:
                advance(len(chunk))
        if len(reasons) == len(paths):
            raise DataError(_nothing_readable(paths, reasons))
        file.seek(0)
        file.write(_npy_header((len(paths) - len(reasons), size, size, 3)))

    _write(folder / f"{key}.npy", write_pixels)
    record = {"bytes": (folder / f"{key}.npy").stat().st_size, "errors": reasons}
    # The record comes last: without it the pixels do not count.
    _write(folder / f"{key}.json", lambda file: file.write(json.dumps(record).encode()))


def _try_decode(path: Path, size: int) -> NDArray[np.uint8] | str:
    try:
        return decode_image(path, size)
    except DataError as error:
        return str(error)


def _nothing_readable(paths: Sequence[Path], reasons: dict[int, str]) -> str:
    shown = "; ".join(f"{paths[row].name}: {why}" for row, why in list(reasons.items())[:3])
    return f"expected images, but nothing is readable: all {len(paths)} files fail ({shown})"


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a uint8 .npy file, always ``_HEADER`` bytes, so that it can be written after the pixels."""
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    room = _HEADER - 10
    return np.lib.format.magic(1, 0) + room.to_bytes(2, "little") + described.ljust(room - 1).encode() + b"\n"


def _write(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file that is either wholly there or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path, key: str) -> Iterator[None]:
    """One process at a time builds what belongs to ``key``; the next one finds it. The system frees a dead one's lock."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        yield


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Trouble with the cache folder, told with the way out."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the second from filelock, on file systems without locks
        way_out = "set the environment variable TAMETAIL_CACHE to a folder"
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
            raise TametailError(
                f"no space left for decoded images in {folder}; free some, or {way_out} on another disk"
            ) from error
        raise TametailError(
            f"the cache folder {folder} cannot be used ({error}); {way_out} that can be written"
        ) from error
