"""Remove what killed processes left behind, and nothing else: all clean-up of files is done here.

Only names that this program makes are removed, from folders that are neither links nor on another disk than the folder
that they are in. Each folder is opened before its entries are removed, so that it cannot be replaced by a link meanwhile.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tametail.core.processes import is_running, machine

# The writer's machine and process are in the name. That needs no locks, which file systems of networks may lack or, as SMB,
# make mandatory for the writer too; and it works in folders that no command locks, as those of tametail predict -o.
_TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.tmp")
_ABANDONED_SECONDS = 86_400.0  # what was not written to for a day has no writer on another machine


def temporary_sibling(path: Path) -> Path:
    """A unique name in the same folder, also among machines that share the disk, which `remove_leftovers` recognises."""
    return path.with_name(f".{path.name}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether the name is of the form of `temporary_sibling`."""
    return _TEMPORARY.fullmatch(name) is not None


def is_visible_or_temporary(name: str) -> bool:
    """Whether this program may have made the name in a folder that is its own: all other hidden names are foreign."""
    return not name.startswith(".") or is_temporary(name)


def remove(path: Path, is_own: Callable[[str], bool] = is_visible_or_temporary) -> None:
    """Remove a file, or a folder with everything in it that is the program's own, as far as possible.

    A link is left, and so is everything in a folder that is a link or a mount point. A folder is left if anything in it is.

    Args:
        path: its folder must not be a link either.
        is_own: whether a name inside the folder, at any depth, is the program's own.
    """
    with suppress(OSError), _opened(path.parent) as folder:
        _remove(path.name, folder, is_own)


def remove_leftovers(
    folder: Path,
    depth: int = 0,
    *,
    is_stale: Callable[[Path], bool] = lambda _: False,
    is_own: Callable[[str], bool] = is_visible_or_temporary,
) -> None:
    """Remove the temporary files and folders of processes that have ended, as far as possible; see `remove`.

    Args:
        folder: nothing is done if it is a link.
        depth: levels of visible sub-folders that are cleaned too.
        is_stale: whether another path is to be removed too.
        is_own: see `remove`, for these paths.
    """
    with suppress(OSError), _opened(folder) as handle:
        _clean(handle, folder, depth, is_stale, is_own)


def _clean(
    handle: int, folder: Path, depth: int, is_stale: Callable[[Path], bool], is_own: Callable[[str], bool]
) -> None:
    for name in os.listdir(handle):
        with suppress(OSError):  # also of the next line: another process may have removed it
            if _is_abandoned(name, handle):
                _remove(name, handle, is_visible_or_temporary)
            elif is_stale(folder / name):
                _remove(name, handle, is_own)
            elif depth and not name.startswith(".") and _is_folder(name, handle):
                with _opened(name, handle) as inner:
                    _clean(inner, folder / name, depth - 1, is_stale, is_own)


def _remove(name: str, parent: int, is_own: Callable[[str], bool]) -> None:
    if not _is_folder(name, parent):
        if stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
        return
    with _opened(name, parent) as folder:
        for inner in filter(is_own, os.listdir(folder)):
            with suppress(OSError):
                _remove(inner, folder, is_own)
    os.rmdir(name, dir_fd=parent)  # fails if anything is left


def _is_folder(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


@contextmanager
def _opened(folder: str | Path, parent: int | None = None) -> Iterator[int]:
    """A folder's handle; an OSError if it is a link, or on another disk than its parent."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if parent is not None and os.fstat(handle).st_dev != os.fstat(parent).st_dev:
            raise OSError(errno.EXDEV, "it is a mount point", str(folder))
        yield handle
    finally:
        os.close(handle)


def _is_abandoned(name: str, parent: int) -> bool:
    """Whether this is a temporary name whose writer has ended."""
    found = _TEMPORARY.fullmatch(name)
    if found is None:
        return False
    written = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime
    if found["machine"] == machine():
        return not is_running(int(found["process"]))
    return time.time() - written > _ABANDONED_SECONDS
