"""The image files that the entries of a table mean. Each folder that they name is listed once."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tametail.core.errors import DataError
from tametail.core.text import quoted, sample_of
from tametail.data.decoding.file_kinds import unread_among
from tametail.data.decoding.nifti import NIFTI_SUFFIXES
from tametail.data.decoding.shards import packed_digests
from tametail.data.decoding.slices import is_nifti
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES, is_kind
from tametail.data.readers.image_search import image_files_below, search_images

_ENDINGS = tuple(ending for suffix in (*IMAGE_SUFFIXES, ".dcm") for ending in (suffix, suffix.upper()))
_OUTSIDE = ".."


@dataclass(frozen=True)
class LocatedImages:
    """The files of N image entries.

    Attributes:
        images: N POSIX paths of existing files, relative to the root; None where there is none.
        notes: how files were found that are not where their entry says.
        others: images in the same folders that no entry names.
    """

    images: tuple[str | None, ...]
    notes: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()


def locate_images(
    entries: Sequence[str], base: Path, root: Path, path: Path, *, skip: bool = False, volumes: bool = False
) -> LocatedImages:
    """Find the files of image entries as written in a table.

    An entry is a path relative to ``base`` or an absolute one, with ``/`` or ``\\`` between its parts; its extension
    may be omitted. Where there is no such file, one of this name is looked for in all folders below ``base``, see
    `tametail.data.readers.image_search`. Links are resolved: no entry may reach a file outside ``root``.

    Args:
        entries: N entries of the table at ``path``.
        base: folder that the entries are relative to, ``root`` or one below it.
        skip: allow entries without a file.
        volumes: allow NIfTI files.

    Raises:
        DataError: entries lead outside ``root``, to several files or, unless ``skip``, to none; or a folder cannot be listed.
    """
    if unread := unread_among(entry for entry in entries if not (volumes and is_nifti(entry))):
        raise DataError(f"expected images in {path}, but {unread}")
    folders = _Folders(base, root, volumes)
    found = [folders.locate(entry) for entry in entries]
    outside = [entry for entry, image in zip(entries, found, strict=True) if image == _OUTSIDE]
    if outside:
        raise DataError(
            f"{len(outside)} of {len(entries)} images of {path} lie outside {os.path.abspath(root)}, links "
            f"resolved ({sample_of(outside)}); name a folder above them with --image-root"
        )
    absent = [entry for entry, image in zip(entries, found, strict=True) if image is None]
    if not absent:
        return LocatedImages(tuple(found), (), folders.images() - set(found))
    taken = {Path(os.path.relpath(root / image, base)).as_posix() for image in set(found) if image}
    searched = search_images(absent, list(image_files_below(base, volumes)), taken)
    if searched.ambiguous:
        named = "; ".join(
            f"{quoted(entry)} may be {sample_of(files)}"
            for entry, files in list(searched.ambiguous.items())[:3]
        )
        raise DataError(
            f"{len(searched.ambiguous)} of {len(entries)} images of {path} may be one of several files below "
            f"{os.path.abspath(base)} ({named}); name the folder they are relative to with --image-root, or write paths "
            f"with their folders into the table"
        )
    elsewhere = {entry: folders.locate(file) for entry, file in searched.found.items()}
    elsewhere = {entry: None if image == _OUTSIDE else image for entry, image in elsewhere.items()}
    images = tuple(
        elsewhere.get(entry) if image is None else image for entry, image in zip(entries, found, strict=True)
    )
    missing = [entry for entry, image in zip(entries, images, strict=True) if image is None]
    if missing and not skip:
        every = len(missing) == len(entries)
        advice = "" if every else ", or leave these rows out with --missing skip"
        raise DataError(
            f"{len(missing)} of {len(entries)} images of {path} are not in {os.path.abspath(base)} "
            f"({sample_of(missing)}); name the folder they are relative to with --image-root{advice}"
        )
    return LocatedImages(images, searched.notes, folders.images() - set(images))


class _Folders:
    """The folders that entries name, each listed on first use."""

    def __init__(self, base: Path, root: Path, volumes: bool) -> None:
        self._endings = (*_ENDINGS, *NIFTI_SUFFIXES) if volumes else _ENDINGS
        self._base = os.path.abspath(base)
        self._root = os.path.abspath(root)
        self._real_root = os.path.realpath(root)
        self._listed: dict[str, tuple[str, dict[str, bool]] | None] = {}
        # Folder → names, where the root stands for images in shards.
        self._packed: dict[str, dict[str, bool]] = defaultdict(dict)
        for image in packed_digests(root) or ():
            folder, _, name = image.rpartition("/")
            self._packed[folder or os.curdir][name] = False

    def locate(self, entry: str) -> str | None:
        """Path relative to the root, ``".."`` for one outside it, None for no file."""
        return self._look_up(entry) or self._look_up(entry.replace("\\", "/"))

    def images(self) -> frozenset[str]:
        """Paths, relative to the root, of the images in all folders that entries named."""
        return frozenset(
            prefix + name
            for prefix, names in filter(None, self._listed.values())
            for name in names
            if os.path.splitext(name)[1].lower() in (*DICOM_SUFFIXES, *IMAGE_SUFFIXES)
            and not name.startswith(".")
        )

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
        fitting = (
            [name] if name in is_link else [name + end for end in self._endings if name + end in is_link]
        )
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
            files = self._packed.get(Path(relative).as_posix(), {})
            if not self._packed:
                with os.scandir(full) as items:
                    files = {
                        item.name: item.is_symlink() for item in items if is_kind(item, os.DirEntry.is_file)
                    }
        except PermissionError as error:
            raise DataError(
                f"the folder {full} cannot be read ({error.strerror}); grant yourself permission"
            ) from error
        except (OSError, ValueError):  # absent, not a folder, a circle of links, too long a name, a NUL
            return None
        return ("" if relative == os.curdir else f"{Path(relative).as_posix()}/"), files


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
