"""The folder for all that can be made again: where it is, how files appear in it, and how it is kept from growing."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tametail.core.errors import TametailError, UsageError

DEFAULT_LIMIT_GB = 100.0
_BOUNDED = ("decoded", "features")  # what grows with the number of data sets and backbones


def cache_dir() -> Path:
    """Folder for all that can be made again: ``TAMETAIL_CACHE``, or the system's folder for caches."""
    import platformdirs

    named = os.environ.get("TAMETAIL_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("tametail"))


def cache_limit() -> int:
    """Bytes that decoded images and features may take together: ``TAMETAIL_CACHE_GB`` times 10^9, 100 GB without it.

    Raises:
        UsageError: it is set to something that is not a number above 0.
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
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.folder / f"{self.key}.lock", timeout=0):
                # The record comes first: whoever is killed here leaves nothing that is taken for finished.
                for path in sorted(self.files, key=lambda path: path.suffix != ".json"):
                    path.unlink(missing_ok=True)
        except (Timeout, OSError, NotImplementedError):
            return False
        return True


def make_room(needed: int, *, keep: Collection[str] = ()) -> None:
    """Remove what was unused for longest until ``needed`` bytes fit on the disk and within `cache_limit`.

    Args:
        needed: bytes about to be written.
        keep: keys that must stay. What a process holds the lock of stays too. (A process that has an entry mapped, but
            not locked, keeps its pages even if the name goes.)

    Raises:
        TametailError: there is not enough that may go; nothing is removed then.
        UsageError: see `cache_limit`.
    """
    folder, limit = cache_dir(), cache_limit()
    entries = _entries(folder)
    free = shutil.disk_usage(_existing(folder)).free
    excess = max(sum(entry.bytes for entry in entries) + needed - limit, needed - free)
    removable = sorted((entry for entry in entries if entry.key not in keep), key=lambda entry: entry.used)
    if excess <= sum(entry.bytes for entry in removable):
        for entry in removable:
            if excess <= 0:
                return
            if entry.remove():
                excess -= entry.bytes
    if excess > 0:
        raise TametailError(
            f"no space for {_gb(needed)} of decoded images or features in {folder}: {_gb(free)} are free on its disk, "
            f"and the cache may hold {_gb(limit)}. Free some disk space, raise TAMETAIL_CACHE_GB, name a folder on another "
            f"disk by the environment variable TAMETAIL_CACHE, or take a smaller image size"
        )


def mark_used(path: Path) -> None:
    """Note that a file of the cache is of use now: `make_room` spares what was used last."""
    try:
        os.utime(path)
    except OSError:
        return  # a cache that can only be read is never cleared either


@contextmanager
def lock(folder: Path, key: str) -> Iterator[None]:
    """One process at a time builds what belongs to ``key``; the next one finds it. The system frees a dead one's lock."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        yield


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Trouble with the cache folder, told with the way out."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the second from filelock, on file systems without locks
        way_out = "set the environment variable TAMETAIL_CACHE to a folder"
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
            raise TametailError(
                f"no space left in the cache folder {folder}; free some, or {way_out} on another disk"
            ) from error
        raise TametailError(
            f"the cache folder {folder} cannot be used ({error}); {way_out} that can be written"
        ) from error


def _entries(folder: Path) -> list[_Entry]:
    found: dict[tuple[str, str], _Entry] = {}
    for part in _BOUNDED:
        for path in (folder / part).glob("*"):
            if path.suffix == ".lock":
                continue
            key = path.name.lstrip(".").partition(".")[
                0
            ]  # what is being written begins with a dot, or ends in .tmp
            entry = found.setdefault((part, key), _Entry(folder / part, key))
            try:
                status = path.stat()
            except OSError:
                continue  # another process was quicker
            entry.files.append(path)
            entry.bytes += status.st_size
            entry.used = max(entry.used, status.st_mtime)
    return list(found.values())


def _existing(folder: Path) -> Path:
    return next((path for path in (folder, *folder.parents) if path.exists()), folder)


def _gb(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
