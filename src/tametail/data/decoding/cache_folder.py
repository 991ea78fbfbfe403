"""The cache folder: its place, its size limit, its locks and atomic writes."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tametail.core.atomic import atomic_directory
from tametail.core.errors import TametailError, UsageError
from tametail.core.removal import remove, remove_leftovers
from tametail.storage.locks import LOCK, hold

DEFAULT_LIMIT_GB = 100.0
_COPIES = "packed"  # copies of shards, which need not be decoded again
INSPECTED = "inspected"
"""Sub-folder of what audits learned from files."""
_BOUNDED = (
    "decoded",
    "features",
    INSPECTED,
    _COPIES,
)  # sub-folders that grow with the number of data sets and backbones
# The last kind is a block of features.
_FILE = re.compile(r"([0-9a-f]{32,40})(?:\.npy|\.json|\.bin|-\d+\.safetensors)")
_ADVICE = (
    "Free some disk space, raise TAMETAIL_CACHE_GB, name a folder on another disk by the environment variable TAMETAIL_CACHE, or "
    "take a smaller image size"
)
_reserved = 0
used_here: set[str] = set()
"""Keys of decoded images and features that this process has used."""


def cache_dir() -> Path:
    """The cache folder: ``TAMETAIL_CACHE``, or the cache folder of the system."""
    import platformdirs

    named = os.environ.get("TAMETAIL_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("tametail"))


def cache_limit() -> int:
    """Most bytes of decoded images, features and copies of shards together: ``TAMETAIL_CACHE_GB`` times 10^9, by default 100 GB.

    Raises:
        UsageError: the variable is not a number above 0.
    """
    text = os.environ.get("TAMETAIL_CACHE_GB", "").strip()
    try:
        limit = float(text) if text else DEFAULT_LIMIT_GB
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise UsageError(
            f"expected the environment variable TAMETAIL_CACHE_GB to be a number of gigabytes above 0, such as "
            f"{DEFAULT_LIMIT_GB:g}, got {text!r}"
        )
    return int(limit * 1e9)


@dataclass
class _Entry:
    """The files of one key."""

    folder: Path
    key: str
    bytes: int = 0
    used: float = 0.0
    files: list[Path] = field(default_factory=list)

    def remove(self) -> bool:
        """False if a process holds its lock, or the system keeps its files."""
        try:
            with hold(self.folder / f"{self.key}{LOCK}"):
                # The record first, so that a process killed here leaves nothing that counts as complete.
                for path in sorted(self.files, key=lambda path: path.suffix != ".json"):
                    remove(path)
        except (TametailError, OSError):
            return False
        return True


def make_room(needed: int, *, keep: Collection[str] = (), advice: str = _ADVICE) -> None:
    """Remove the least recently used entries, copies of shards first, until ``needed`` bytes fit on the disk and within `cache_limit`.

    Args:
        needed: bytes about to be written.
        keep: keys that must not be removed; locked entries are not removed either.
        advice: what to do if they do not fit.

    Raises:
        TametailError: not enough can be removed; nothing is removed then.
        UsageError: see `cache_limit`.
    """
    folder, limit = cache_dir(), cache_limit()
    entries = _entries(folder)
    free = _free(folder)
    excess = max(sum(entry.bytes for entry in entries) + _reserved + needed - limit, needed - free)
    removable = [entry for entry in entries if entry.key not in keep]
    removable.sort(key=lambda entry: (entry.folder.name != _COPIES, entry.used))
    if excess <= sum(entry.bytes for entry in removable):
        for entry in removable:
            if excess <= 0:
                return
            if entry.remove():
                excess -= entry.bytes
    if excess > 0:
        raise _no_space(needed, folder, free, limit, advice)


@contextmanager
def reserved(count: int) -> Iterator[None]:
    """Let `make_room` count bytes that this process is writing during the block, and which are in no entry yet."""
    global _reserved
    _reserved += count
    try:
        yield
    finally:
        _reserved -= count


def check_room(needed: int, advice: str) -> None:
    """Raise what `make_room` raises if ``needed`` bytes would not fit even into an empty cache; nothing is removed."""
    folder, limit = cache_dir(), cache_limit()
    free = _free(folder)
    if needed > limit or needed > free + sum(entry.bytes for entry in _entries(folder)):
        raise _no_space(needed, folder, free, limit, advice)


def _no_space(needed: int, folder: Path, free: int, limit: int, advice: str) -> TametailError:
    return TametailError(
        f"no space for {_gb(needed)} of images or features in {folder}: {_gb(free)} are free on its disk, "
        f"and the cache may hold {_gb(limit)}. {advice}"
    )


def _free(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def mark_used(path: Path) -> None:
    """Mark a file of the cache as just used, for `make_room`."""
    used_here.add(path.stem)
    try:
        os.utime(path)
    except OSError:
        return  # a read-only cache is never cleared either


@contextmanager
def cache_lock(folder: Path, key: str) -> Iterator[None]:
    """Let one process at a time build the entry of ``key``."""
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / f"{key}{LOCK}", wait=math.inf):
        yield


@contextmanager
def explain_cache_error(folder: Path) -> Iterator[None]:
    """Raise errors of the cache folder as `TametailError` with advice."""
    try:
        yield
    except OSError as error:
        advice = "set the environment variable TAMETAIL_CACHE to a folder"
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
            raise TametailError(
                f"no space left in the cache folder {folder}; free some, or {advice} on another disk"
            ) from error
        message = f"the cache folder {folder} cannot be used ({error}); {advice} that can be written"
        raise TametailError(message) from error


def cached_folder(folder: Path, build: Callable[[Path], None], is_complete: Callable[[Path], bool]) -> Path:
    """Find a folder of the cache, or build it atomically, also if several processes need it at once.

    Args:
        build: fills an empty folder.
        is_complete: whether an existing folder is complete; otherwise it is built again.

    Raises:
        TametailError: the cache folder cannot be written or is full.
    """
    with explain_cache_error(folder.parent), cache_lock(folder.parent, folder.name):
        if folder.is_dir() and is_complete(folder):
            return folder
        with atomic_directory(folder) as unfinished:
            build(unfinished)
    return folder


def _entries(folder: Path) -> list[_Entry]:
    found: dict[tuple[str, str], _Entry] = {}
    for part in _BOUNDED:
        remove_leftovers(folder / part)
        for path in (folder / part).glob("*"):
            named = _FILE.fullmatch(path.name)
            if named is None:
                continue
            entry = found.setdefault((part, named[1]), _Entry(folder / part, named[1]))
            try:
                status = path.lstat()
            except OSError:
                continue  # removed by another process
            entry.files.append(path)
            entry.bytes += status.st_size
            entry.used = max(entry.used, status.st_mtime)
    return list(found.values())


def _gb(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
