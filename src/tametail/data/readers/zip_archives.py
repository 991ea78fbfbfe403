"""Zip archives of images → `ImageTable`, as their folder would be read, with the images read from the archives.

An archive is stood for by a folder of empty files, of which only tables have their content; the readers of folders read it, and
it is removed. So every layout of folders and tables that they know is read from an archive too.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tametail.core.errors import DataError, UsageError
from tametail.core.removal import remove, remove_leftovers, temporary_sibling
from tametail.core.text import quoted
from tametail.data.decoding.bit_depth import begins_deep
from tametail.data.decoding.cache_folder import cache_dir, explain_cache_error
from tametail.data.decoding.decode import is_dicom
from tametail.data.decoding.file_kinds import is_image, kind_of
from tametail.data.decoding.shards import (
    ImageMember,
    Shard,
    check_copies,
    explain_source,
    file_system,
    image_digest,
    is_url,
    list_shard,
    open_copy,
    read_index,
    register_shards,
    write_index,
)
from tametail.data.decoding.slices import is_nifti
from tametail.data.decoding.zip_members import ZipMember, zip_content, zip_members
from tametail.data.readers.class_folders import ClassFolderReader
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES, list_folder
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.table_file import TABLE_SUFFIXES
from tametail.data.readers.table_folders import TABLE_NAMES, SplitTablesReader, TableFolderReader
from tametail.data.table import ImageTable

_MOST_BYTES = 2**28  # of an image or a table
_HEAD_BYTES = 132  # tell the kind of a file
_NOTES = (".txt", ".md", ".pdf", "")  # beside archives


class _Archive(NamedTuple):
    """An archive and the folder that it is read as, empty or with a final ``/``."""

    path: str | Path
    folder: str


@register_reader
class ZipReader(Reader):
    """Reads a .zip file as the folder in it, or a folder of nothing but .zip files as one with these sub-folders."""

    name = "zip_archives"
    priority = -25  # after tables
    takes_folder_options = True

    def matches(self, source: str | Path) -> bool:
        return not is_url(source) and bool(_archives(Path(source).expanduser()))

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        options.refuse("the images are in a zip archive", "image_root")
        path = Path(source).expanduser()
        return read_zip_archives(_archives(path), path, options)


def _archives(path: Path) -> list[_Archive]:
    """The archive of this path or those in a folder; none if other things are there."""
    if path.is_file():
        return [_Archive(path, "")] if path.suffix.lower() == ".zip" else []
    if not path.is_dir():
        return []
    inside = [Path(item.path) for item in list_folder(path)]
    archives = [file for file in inside if file.suffix.lower() == ".zip"]
    if any(file.is_dir() or file.suffix.lower() not in _NOTES for file in inside if file not in archives):
        return []  # the download that images beside it are from
    return sorted((_Archive(file, f"{file.stem}/") for file in archives), key=lambda archive: archive.folder)


def is_zip_url(source: str | Path) -> bool:
    """Whether a source is the URL of a zip archive, also one with a query."""
    return is_url(source) and str(source).partition("?")[0].lower().endswith(".zip")


def read_zip_url(source: str, options: ReadOptions) -> ImageTable:
    """The table of the images of a zip archive at a URL, which is copied to the cache; see `read_zip_archives`."""
    options.refuse("the images are in a zip archive", "image_root")
    return read_zip_archives([_Archive(source, "")], source, options)


def read_zip_archives(archives: Sequence[_Archive], source: str | Path, options: ReadOptions) -> ImageTable:
    """The table of the images in archives, with the ids that they would have in their folder.

    Each archive is read through once, to know the digests of its images, which are remembered.

    Raises:
        DataError: an archive is damaged or hostile, see `zip_members`, holds DICOM files, or cannot be read as a folder.
        TametailError: the cache cannot be written.
    """
    shards: list[Shard] = []
    images: list[ImageMember] = []
    if isinstance(source, str):
        name = PurePosixPath(source.partition("?")[0]).stem
    else:
        name = source.resolve().stem if source.is_file() else source.resolve().name
    with _stand_in(name or "images") as folder:
        for archive in archives:
            with explain_source(str(archive.path)):
                system, path = file_system(archive.path)
                path = str(archive.path) if is_url(archive.path) else path
                listed = list_shard(system, system._strip_protocol(path), path, "zip")
            check_copies([listed])
            shard = replace(listed, state=f"{listed.state} {archive.folder}")
            with explain_cache_error(folder), explain_source(path), open_copy(shard) as file:
                found = _scan(file, shard, archive.folder, folder, volumes=options.slices is not None)
            if found:
                shards.append(replace(shard, first=found[0].image, start=len(images), rows=len(found)))
                images += found
        if not images:
            raise DataError(
                f"expected images ({', '.join(IMAGE_SUFFIXES)}) in {source}, found none; give an archive of images"
            )
        readers = (TableFolderReader(), SplitTablesReader(), ClassFolderReader())
        try:
            table = next(reader for reader in readers if reader.matches(folder)).read(
                folder, replace(options, slices=None)
            )
        except (DataError, UsageError) as error:  # it names the archive, not what stands for it
            raise type(error)(str(error).replace(str(folder), str(source))) from error
    deep = any(json.loads(member.sidecar)["deep"] for member in images)
    ids, digests = [member.image for member in images], [member.digest for member in images]
    return replace(table, root=register_shards(shards, ids, digests, may_be_deep=deep))


@contextmanager
def _stand_in(name: str) -> Iterator[Path]:
    """A folder of this name in the cache that is removed after the block."""
    temporary = temporary_sibling(cache_dir() / "packed" / "zip")
    folder = temporary / name.lstrip(".")
    try:
        with explain_cache_error(temporary.parent):
            remove_leftovers(temporary.parent)
            folder.mkdir(parents=True)
        yield folder
    finally:
        remove(temporary)


def _scan(file: IO[bytes], shard: Shard, prefix: str, folder: Path, *, volumes: bool) -> list[ImageMember]:
    """The images of an archive, sorted; what stands for its files is written below ``folder``."""
    members = [
        member
        for member in zip_members(file, shard.url)
        if not any(part.startswith((".", "__MACOSX")) for part in member.name.split("/"))
    ]
    top = _folder_with_table([member.name for member in members])
    known = {member.image: member for member in read_index(shard) or ()}
    found = []
    for member in members:
        inside = prefix + member.name.removeprefix(top)
        suffix = kind_of(Path(inside))
        head = b""
        if suffix in DICOM_SUFFIXES:
            raise DataError(_no_dicom(member, shard))
        if volumes and is_nifti(inside):
            raise DataError(
                f"expected images in {shard.url}, found the volume {quoted(member.name)}: --slices does not read volumes in archives; "
                f"unpack the archive and give its folder"
            )
        if suffix in TABLE_SUFFIXES:
            _, head = zip_content(file, member, shard.url, _MOST_BYTES)
        elif not suffix and not member.name.endswith("/"):
            head = zip_content(file, member, shard.url, _MOST_BYTES)[1][:_HEAD_BYTES]
            if is_dicom(head):
                raise DataError(_no_dicom(member, shard))
        if suffix in IMAGE_SUFFIXES or is_image(head):
            found.append(known.get(inside) or _image(file, member, shard, inside))
        _place(folder, inside, head, f"{quoted(member.name)} of {shard.url}")
    found.sort()
    if not known:
        write_index(shard, found)
    return found


def _folder_with_table(names: Sequence[str]) -> str:
    """The only folder of an archive, with a final ``/``, if the table of its images is in it; otherwise nothing."""
    top = f"{names[0].partition('/')[0]}/" if names else ""
    inside = [name.removeprefix(top) for name in names if name.startswith(top)]
    return top if len(inside) == len(names) and any(name in TABLE_NAMES for name in inside) else ""


def _no_dicom(member: ZipMember, shard: Shard) -> str:
    return f"expected images other than DICOM in {shard.url}, found {quoted(member.name)}; unpack the archive and give its folder"


def _image(file: IO[bytes], member: ZipMember, shard: Shard, image: str) -> ImageMember:
    offset, content = zip_content(file, member, shard.url, _MOST_BYTES)
    sidecar = {"deep": begins_deep(content[:26]), "inflated": member.size if member.deflated else 0}
    return ImageMember(image, offset, member.stored, image_digest(content), json.dumps(sidecar))


def _place(folder: Path, inside: str, content: bytes, what: str) -> None:
    """Write what stands for a file, or for a folder if its name ends with ``/``."""
    path = folder / inside
    try:
        if inside.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}:
            raise
        raise DataError(
            f"expected names that files of one folder can have, found {what} ({error.strerror}); rename it"
        ) from error
