"""Image files below a folder, and their extensions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tametail.core.errors import DataError
from tametail.core.regular_file import regular

DICOM_SUFFIXES = (".dcm", ".dicom")
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".jfif", ".avif",
)  # fmt: skip


def is_kind(item: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether an entry is a file or a folder (``os.DirEntry.is_file``, ``is_dir``); a circle of links is neither."""
    try:
        return kind(item)
    except OSError:
        return False


def walk(root: Path, empty: list[Path] | None = None) -> Iterator[Path]:
    """Files below ``root``, relative to it, in sorted order; without hidden ones, through links but never in circles.

    A broken link is listed, so that it is reported as unreadable; a pipe or device, which would block, is refused.

    Args:
        empty: filled with the folders that hold nothing.

    Raises:
        DataError: a folder cannot be read, or an image is not a file.
    """
    visited: set[str] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        below = []
        items = list(list_folder(folder))
        if empty is not None and not items and folder != root:
            empty.append(folder.relative_to(root))
        for item in items:
            if is_kind(item, os.DirEntry.is_dir):
                below.append(Path(item.path))
            elif is_kind(item, os.DirEntry.is_file) or (item.is_symlink() and not os.path.exists(item.path)):
                yield Path(item.path).relative_to(root)
            elif Path(item.name).suffix.lower() in IMAGE_SUFFIXES:
                raise DataError(f"expected image files, but {item.path} is a pipe or a device; remove it")
        folders += reversed(below)


def first_bytes(path: Path) -> bytes:
    """The first 132 bytes of a file, which tell its kind; none if it cannot be read."""
    try:
        with open(regular(path), "rb") as file:
            return file.read(132)
    except OSError:
        return b""


def list_folder(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, sorted, without hidden files and those that archive programs add.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as items:
            found = sorted(items, key=lambda item: item.name)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"the folder {folder} cannot be read ({reason}); grant yourself permission, or move it elsewhere"
        ) from error
    return (item for item in found if not item.name.startswith((".", "__MACOSX")))
