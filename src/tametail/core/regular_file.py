"""Refuse pipes, devices and sockets where a file is to be read, as opening one may wait for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def regular(path: Path) -> Path:
    """Return the path of a regular file, also one behind a link.

    Raises:
        OSError: nothing is there, or a folder, pipe, device or socket.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        return path
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    raise OSError(errno.EINVAL, "it is a pipe, device or socket, not a file", str(path))


def unsafe_entries(directory: Path) -> list[Path]:
    """Pipes, devices, sockets and links to folders in a folder and those below it, sorted; hidden links are not listed."""
    found = []
    for folder, folders, files in os.walk(directory):
        for name in folders:
            path = Path(folder, name)
            if path.is_symlink() and not (name.startswith(".") and not name.endswith(".checkpoint")):
                found.append(path)
        for name in files:
            path = Path(folder, name)
            # A link without a target is an absent file.
            if path.exists() and not path.is_file():
                found.append(path)
    return sorted(found)
