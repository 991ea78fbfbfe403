"""Image files below a folder: those that a table names, or all. Each folder is listed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tametail.core.errors import DataError
from tametail.core.text import sample_of
from tametail.data.decoding.file_kinds import unread_among

DICOM_SUFFIXES = (".dcm", ".dicom")
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".jfif", ".avif",
)  # fmt: skip
_ENDINGS = tuple(ending for suffix in (*IMAGE_SUFFIXES, ".dcm") for ending in (suffix, suffix.upper()))
_OUTSIDE = ".."


def locate_images(entries: Sequence[str], base: Path, root: Path, path: Path) -> list[str]:
    """Find the files of image entries as written in a table.

    An entry is a path relative to ``base`` or an absolute one, with ``/`` or ``\\`` between its parts; its extension
    may be omitted. Links are resolved: no entry may reach a file outside ``root``.

    Args:
        entries: N entries of the table at ``path``.
        base: folder that the entries are relative to, ``root`` or one below it.

    Returns:
        N POSIX paths of existing files, relative to ``root``.

    Raises:
        DataError: entries lead outside ``root`` or to no file, or a folder cannot be listed.
    """
    if unread := unread_among(entries):
        raise DataError(f"expected images in {path}, but {unread}")
    folders = _Folders(base, root)
    found = [folders.locate(entry) for entry in entries]
    outside = [entry for entry, image in zip(entries, found, strict=True) if image == _OUTSIDE]
    if outside:
        raise DataError(
            f"{len(outside)} of {len(entries)} images of {path} lie outside {os.path.abspath(root)}, links "
            f"resolved ({sample_of(outside)}); name a folder above them with --image-root"
        )
    missing = [entry for entry, image in zip(entries, found, strict=True) if image is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(entries)} images of {path} are not in {os.path.abspath(base)} "
            f"({sample_of(missing)}); name the folder they are relative to with --image-root"
        )
    return [image for image in found if image is not None]


class _Folders:
    """The folders that entries name, each listed on first use."""

    def __init__(self, base: Path, root: Path) -> None:
        self._base = os.path.abspath(base)
        self._root = os.path.abspath(root)
        self._real_root = os.path.realpath(root)
        self._listed: dict[str, tuple[str, dict[str, bool]] | None] = {}

    def locate(self, entry: str) -> str | None:
        """Path relative to the root, ``".."`` for one outside it, None for no file."""
        return self._look_up(entry) or self._look_up(entry.replace("\\", "/"))

    def _look_up(self, entry: str) -> str | None:
        folder, slash, name = entry.rpartition("/")
        folder = folder or slash
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        listed = self._listed[folder]
        if listed is None:
            return None
        prefix, is_link = listed
        if prefix == _OUTSIDE:
            return _OUTSIDE
        fitting = [name] if name in is_link else [name + end for end in _ENDINGS if name + end in is_link]
        if len(fitting) > 1:
            raise DataError(
                f"the image {entry!r} has no extension, and {sample_of(fitting)} fit; write the extension into the table, or "
                f"remove one of the files"
            )
        if not fitting:
            return None
        image = prefix + fitting[0]
        real = os.path.realpath(os.path.join(self._root, image)) if is_link[fitting[0]] else None
        return image if real is None or _within(real, self._real_root) else _OUTSIDE

    def _list(self, folder: str) -> tuple[str, dict[str, bool]] | None:
        """(prefix of its images' ids, file name → whether it is a link), or None where there is no such folder."""
        full = os.path.normpath(os.path.join(self._base, folder))
        try:
            real = os.path.realpath(full)
            if not _within(real, self._real_root):
                return (
                    _OUTSIDE,
                    {},
                )  # not listed: a table from elsewhere must reveal nothing about this machine
            relative = os.path.relpath(full, self._root) if _within(full, self._root) else None
            relative = relative or os.path.relpath(real, self._real_root)
            with os.scandir(full) as items:
                files = {item.name: item.is_symlink() for item in items if is_kind(item, os.DirEntry.is_file)}
        except PermissionError as error:
            raise DataError(
                f"the folder {full} cannot be read ({error.strerror}); grant yourself permission"
            ) from error
        except (OSError, ValueError):  # absent, not a folder, a circle of links, too long a name, a NUL
            return None
        return ("" if relative == os.curdir else f"{Path(relative).as_posix()}/"), files


def is_kind(item: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether an entry is a file or a folder (``os.DirEntry.is_file``, ``is_dir``); a circle of links is neither."""
    try:
        return kind(item)
    except OSError:
        return False


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


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
        with open(path, "rb") as file:
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
