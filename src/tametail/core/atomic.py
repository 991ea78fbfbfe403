"""Write files and folders atomically and durably: what is on disk is complete, or as it was before."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tametail.core.errors import explain_write_error
from tametail.core.removal import is_visible_or_temporary, remove, remove_leftovers, temporary_sibling


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; after the block it is renamed to ``path``, unless an error was raised.

    What killed processes left in this folder is removed first.

    Raises:
        OSError: it cannot be written. ``path`` is unchanged then, as it is after an interruption.
    """
    remove_leftovers(path.parent)
    temporary = temporary_sibling(path)
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except BaseException:  # also after an interruption
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


@contextmanager
def atomic_directory(
    directory: Path, is_own: Callable[[str], bool] = is_visible_or_temporary, last: str = ""
) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to ``directory`` at the end, or deleted after an error.

    If ``directory`` exists, those of its entries that are ``is_own`` are removed, and the others stay.

    Args:
        is_own: see `tametail.core.removal.remove`.
        last: the file that marks the folder as complete.

    Raises:
        OSError: it, or a file in it, cannot be written.
    """
    make_folder(directory.parent)
    remove_leftovers(directory.parent)
    temporary = temporary_sibling(directory.parent.resolve() / directory.name)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            flush(file)
        flush(temporary)
        if directory.is_dir():
            remove(directory, is_own)
        try:
            os.replace(temporary, directory)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            for file in sorted(temporary.iterdir(), key=lambda file: file.name == last):
                os.replace(file, directory / file.name)
        flush(directory.parent)
    finally:
        remove(temporary)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file of text (as UTF-8) or bytes in one step; raises as `atomic_path` does."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(data)


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file that the user named, in one step, and make its folder; a link, device or pipe is written to.

    Raises:
        TametailError: it cannot be written; an existing file is unchanged.
    """
    with explain_write_error(path):
        target = path.resolve()
        make_folder(target.parent)
        if target.exists() and not target.is_file():  # such as /dev/stdout
            target.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        else:
            write_atomically(target, content)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, durably."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        flush(path.parent)


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
