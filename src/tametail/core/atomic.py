"""Files that are whole and on the disk, or as they were before: the one way in which anything that must last is written."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextmanager
def atomic_path(path: Path, *, lock: bool = False) -> Iterator[Path]:
    """Gives the path of a temporary file beside ``path`` to write to; left without an error, it takes the name ``path``.

    Args:
        alone: no one else writes this file meanwhile. The temporary name is then always the same, so that what a killed
            process left is written over.

    Raises:
        OSError: it cannot be written. What was at ``path`` is untouched then, as it is after an interruption.
    """
    temporary = path.with_name(f"{path.name}.tmp") if lock else temporary_sibling(path)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except BaseException:  # an interruption, too, leaves nothing behind
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file of text (as UTF-8) or bytes in one step.

    Raises:
        OSError: see `atomic_path`.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(data)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, such that they last.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        flush(path.parent)


def temporary_sibling(path: Path) -> Path:
    """A name in the same folder that no other process has, on this machine or another that shares the disk."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether `temporary_sibling` gives such names."""
    return _TEMPORARY.fullmatch(name) is not None


def flush(path: Path) -> None:
    """Have the system write a file or folder to the disk before anything later counts on it.

    Raises:
        OSError: it cannot be written. (A file system that cannot do so for folders is no reason to fail.)
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP} or not path.is_dir():
            raise
    finally:
        os.close(handle)
