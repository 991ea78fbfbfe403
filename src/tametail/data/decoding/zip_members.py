"""The files in a zip archive of unknown origin: where each is, without unpacking and within bounded time and memory."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from typing import IO, NamedTuple

from tametail.core.errors import DataError
from tametail.core.text import quoted

_MOST_ENTRIES = (
    500_000  # files and folders: the largest sets have 400,000, and each entry takes some 10 µs and 0.5 KB
)
_DIRECTORY_BYTES = 2**26  # of the list of files: 500,000 entries with names of 80 characters
_ENTRY = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_MOST_RATIO = 200  # of a file's size to its compressed size: images have 1 to 10, tables up to 50
_MOST_TOTAL_RATIO = 20  # of all files together
_FREE_BYTES = 2**20  # up to which a ratio says nothing
_FREE_TOTAL_BYTES = 2**28
_DRIVE = re.compile(r"[A-Za-z]:")
_ADVICE = "write the archive again, with plain files only, without a password"


class ZipMember(NamedTuple):
    """A file in an archive, or a folder, whose name ends with ``/``.

    Attributes:
        header: where its own header is.
        stored: bytes that it takes in the archive.
        size: bytes of its content.
        deflated: whether it is compressed.
        checksum: CRC-32 of its content.
    """

    name: str
    header: int
    stored: int
    size: int
    deflated: bool
    checksum: int


class _Directory:
    """An archive as the module zipfile reads it: its end, and then its list of files, whose length is bounded."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(_DIRECTORY_BYTES + 1 if size < 0 else min(size, _DIRECTORY_BYTES + 1))
        if len(content) > _DIRECTORY_BYTES:
            raise DataError(f"a list of files of more than {_DIRECTORY_BYTES:,} bytes")
        if content.count(_ENTRY) > _MOST_ENTRIES:  # before any is read
            raise DataError(f"more than {_MOST_ENTRIES:,} files and folders")
        return content

    def seek(self, *where: int) -> int:
        return self._file.seek(*where)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def zip_members(file: IO[bytes], name: str) -> list[ZipMember]:
    """The files and folders of a zip archive, in the order of its list. Nothing but this list is read.

    Args:
        file: the archive, which can be sought.
        name: its name for messages.

    Raises:
        DataError: it is no such archive, is truncated, or holds a link, a device, an encrypted file, the same name twice, a name
            that leads out of a folder, a compression other than deflate, more than 500,000 files and folders, files that share their
            bytes, or files that would be much larger than the archive.
    """
    end = file.seek(0, 2)
    try:
        with zipfile.ZipFile(_Directory(file)) as archive:
            listed, start = archive.infolist(), archive.start_dir
    except Exception as error:  # a damaged list raises errors of many kinds
        found = quoted(str(error) or type(error).__name__)
        raise DataError(
            f"expected a whole zip archive, found {found} in {name} of {end:,} bytes; copy it again, or write it again"
        ) from error
    names: set[str] = set()
    members = []
    for info in listed:
        if wrong := _wrong(info, start, names):
            raise DataError(
                f"expected plain files in {name}, found {quoted(info.filename)}, {wrong}; {_ADVICE}"
            )
        names.add(info.filename)
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        members.append(
            ZipMember(
                info.filename, info.header_offset, info.compress_size, info.file_size, deflated, info.CRC
            )
        )
    _refuse_overlaps(members, start, name)
    total = sum(member.size for member in members)
    if total > max(_MOST_TOTAL_RATIO * end, _FREE_TOTAL_BYTES):
        raise DataError(
            f"expected files of at most {_MOST_TOTAL_RATIO} times the size of {name} ({end:,} bytes), found {total:,} bytes by its "
            f"list; unpack it yourself if you trust it"
        )
    return members


def _wrong(info: zipfile.ZipInfo, end: int, names: set[str]) -> str:
    """What is wrong with a member; empty if nothing is."""
    name, parts = info.filename, info.filename.rstrip("/").split("/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a device or a pipe"
    if "\0" in info.orig_filename:
        return "whose name has a NUL character"
    if name.startswith("/") or ".." in parts or "\\" in name or _DRIVE.match(name):
        return "which leads out of the archive"
    if "" in parts or "." in parts:
        return "whose name is no plain path"
    if info.flag_bits & 0x41:
        return "which is encrypted"
    if name in names:
        return "for the second time"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "whose compression is neither none nor deflate"
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        return "whose two sizes contradict each other"
    if info.file_size > max(_MOST_RATIO * info.compress_size, _FREE_BYTES):
        return f"of {info.file_size:,} bytes made of {info.compress_size:,}, more than {_MOST_RATIO} times as many"
    if info.header_offset < 0 or info.header_offset + _LOCAL.size + info.compress_size > end:
        return f"of {info.compress_size:,} bytes, more than the archive has"
    return ""


def _refuse_overlaps(members: list[ZipMember], end: int, name: str) -> None:
    """Refuse files that share their bytes, by which a small archive unpacks to a large one."""
    ordered = sorted(members, key=lambda member: member.header)
    ends = [*(each.header for each in ordered), end][1:]
    for member, after in zip(ordered, ends, strict=True):
        if member.header + _LOCAL.size + member.stored > after:
            raise DataError(
                f"expected plain files in {name}, found {quoted(member.name)}, which shares its bytes with another; {_ADVICE}"
            )


def zip_content(file: IO[bytes], member: ZipMember, name: str, most: int) -> tuple[int, bytes]:
    """Where the bytes of a file begin in the archive, and its content.

    Raises:
        DataError: it is larger than ``most`` bytes, or damaged.
    """
    if member.size > most:
        raise DataError(
            f"expected at most {most:,} bytes in {quoted(member.name)} of {name}, found {member.size:,}; leave it out"
        )
    file.seek(member.header)
    header = file.read(_LOCAL.size)
    if len(header) == _LOCAL.size and header.startswith(b"PK\x03\x04"):
        offset = member.header + _LOCAL.size + sum(_LOCAL.unpack(header)[1:])
        file.seek(offset)
        content = (
            inflated(file.read(member.stored), member.size) if member.deflated else file.read(member.size)
        )
        if content is not None and len(content) == member.size and zlib.crc32(content) == member.checksum:
            return offset, content
    raise DataError(f"{quoted(member.name)} in {name} is damaged; copy the archive again")


def inflated(stored: bytes, size: int) -> bytes | None:
    """The content of ``size`` bytes of a deflated file; None if it has another size or is damaged."""
    try:
        decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        content = decoder.decompress(stored, size + 1)
    except zlib.error:
        return None
    return content if len(content) == size else None
