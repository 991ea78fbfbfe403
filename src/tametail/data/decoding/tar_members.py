"""The files in a tar archive of unknown origin: where each is, without unpacking and within bounded memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from tametail.core.errors import DataError
from tametail.core.text import quoted

_HEADER_BYTES = 2**20  # of the headers of one file; names and attributes take hundreds
MOST_FILES = 300_000  # in an archive: shards have thousands, and each takes some 30 µs
_ADVICE = "write the archive again, with plain files only, without compression"


class TarMember(NamedTuple):
    """A file in an archive: its content are ``size`` bytes from ``offset`` on."""

    name: str
    offset: int
    size: int


class _Headers:
    """An archive as the module tarfile reads it: its headers, of which each file may have so many bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left = _HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise DataError(f"a header of more than {_HEADER_BYTES:,} bytes")
        self.left -= size
        return self._file.read(size)

    def seek(self, *where: int) -> int:
        return self._file.seek(*where)

    def tell(self) -> int:
        return self._file.tell()


def tar_members(file: IO[bytes], name: str) -> Iterator[TarMember]:
    """The files of an uncompressed tar archive in their order, without folders. Only headers are read.

    Args:
        file: the archive, which can be sought; its position between two members is the caller's.
        name: its name for messages.

    Raises:
        DataError: it is no such archive, is truncated, or holds a link, a device or a sparse file, the same name twice, a name
            that leads out of a folder, more than `MOST_FILES` files, or headers of more than 1 MiB for a file.
    """
    end = file.seek(0, 2)
    headers = _Headers(file)
    names: set[str] = set()
    position = -1
    archive: Any = None
    while True:
        headers.left = _HEADER_BYTES
        try:
            if archive is None:
                file.seek(0)
                archive = tarfile.TarFile(fileobj=headers)  # type: ignore[arg-type]
                member = archive.firstmember
                archive.firstmember = None
            else:
                member = archive.next()
            archive.members.clear()  # it would keep all of them
        except Exception as error:  # a damaged header raises errors of many kinds
            found = quoted(str(error) or type(error).__name__)
            raise DataError(
                f"expected an uncompressed tar archive, found {found} in {name}; {_ADVICE}"
            ) from error
        if member is None:
            return
        if wrong := _wrong(member, position, end, names):
            raise DataError(
                f"expected plain files in {name}, found {quoted(member.name)}, {wrong}; {_ADVICE}"
            )
        position = member.offset
        if member.isreg():
            names.add(member.name)
            yield TarMember(member.name.removeprefix("./"), member.offset_data, member.size)


def _wrong(member: tarfile.TarInfo, position: int, end: int, names: set[str]) -> str:
    """What is wrong with a member after ``position``; empty if nothing is."""
    if member.offset <= position or member.size < 0:
        return "whose header leads backwards"
    if member.issym() or member.islnk():
        return "a link"
    if member.issparse() or any(key.startswith("GNU.sparse") for key in member.pax_headers):
        return "a sparse file"
    if not (member.isreg() or member.isdir()):
        return "which is a device or a pipe"
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        return "which leads out of the archive"
    if member.offset_data + member.size > end:
        return f"of {member.size:,} bytes, more than the archive has"
    if member.name in names:
        return "for the second time"
    return f"one of more than {MOST_FILES:,}" if len(names) >= MOST_FILES else ""
