"""Write files atomically and durably: a file is complete on disk, or as it was before."""

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
def atomic_path(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; after the block it is renamed to ``path``, unless an error was raised.

    Args:
        exclusive: no other process writes this file. The temporary name is then fixed, so that a leftover of a killed
            process is overwritten.

    Raises:
        OSError: it cannot be written. ``path`` is unchanged then, as it is after an interruption.
    """
    temporary = path.with_name(f"{path.name}.tmp") if exclusive else temporary_sibling(path)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except BaseException:  # also after an interruption
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file of text (as UTF-8) or bytes in one step; raises as `atomic_path` does."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(data)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, durably."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        flush(path.parent)


def temporary_sibling(path: Path) -> Path:
    """A unique name in the same folder, also among machines that share the disk."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether the name is of the form of `temporary_sibling`."""
    return _TEMPORARY.fullmatch(name) is not None


def flush(path: Path) -> None:
    """Flush a file or folder to disk (fsync).

    Raises:
        OSError: it cannot be written. File systems that cannot flush folders are ignored.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP} or not path.is_dir():
            raise
    finally:
        os.close(handle)
