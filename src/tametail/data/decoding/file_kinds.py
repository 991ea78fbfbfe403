"""Kinds of files: images by their first bytes, and kinds that are not read here, with what to do about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tametail.core.text import sample_of

HEIC = "HEIC is not read, as its decoders are under the GPL or LGPL: convert it to PNG or JPEG"
_VOLUME = (
    "volumes are not read: convert them to NIfTI, or export slices as PNG, and keep the patient as the group"
)
_NIFTI = "NIfTI volumes are read as slices with --slices middle (or all, every:N), in class folders or named by a table"
_SLIDE = "whole slides are not read: cut them into tiles, and keep the slide as the group"
_VIDEO = "videos are not read: export frames as PNG, and keep the video as the group"
UNREAD_KINDS: dict[str, str] = {
    **dict.fromkeys((".heic", ".heif"), HEIC),
    **dict.fromkeys((".nii", ".nii.gz"), _NIFTI),
    **dict.fromkeys((".mha", ".mhd", ".nrrd", ".nhdr"), f"MetaImage and NRRD {_VOLUME}"),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vsi", ".czi"), _SLIDE),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mpg", ".mkv"), _VIDEO),
    **dict.fromkeys(
        (".dng", ".cr2", ".nef", ".arw"), "raw photographs are not read: develop them to PNG or TIFF"
    ),
    **dict.fromkeys((".npy", ".mat"), "arrays are not read: save each image as PNG"),
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".pth", ".joblib"),
        "pickled objects can run code when they are read, so they are never opened: save each image as PNG where the file is from",
    ),
    **dict.fromkeys(
        (".h5", ".hdf5"),
        "HDF5 among other files is not read: give the file itself, or a folder of nothing but HDF5",
    ),
    **dict.fromkeys(
        (".h5.gz", ".hdf5.gz"),
        "compressed HDF5 is not read: decompress it (gunzip), and give the .h5 or its folder",
    ),
    **dict.fromkeys(
        (".tfrecord", ".tfrecords", ".tfrec"),
        "TFRecord is not read: save each image in a folder per class, or write WebDataset",
    ),
    **dict.fromkeys(
        (".zip", ".tar"), "archives among other files are not read: unpack them, or give the archive itself"
    ),
    **dict.fromkeys(
        (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar"),
        "compressed archives are not read: unpack them",
    ),
}
"""Extension → why files with it are not read, and what to do."""
_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51",
)  # fmt: skip
_UNREAD = tuple(UNREAD_KINDS)
_AVIF = (b"ftypavif", b"ftypavis")
_HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"))


def kind_of(path: Path) -> str:
    """The extension in lower case, also a double one such as ``.nii.gz``; empty for none.

    A number is no extension: exports are named by their UID, 1.2.840.10008.5.
    """
    suffix = path.suffix.lower()
    double = "".join(path.suffixes[-2:]).lower()
    return double if double in UNREAD_KINDS else "" if suffix[1:].isdigit() else suffix


def is_image(head: bytes) -> bool:
    """Whether a file is a JPEG, PNG, GIF, TIFF, JPEG 2000, WebP or AVIF image, by its first 16 bytes or more."""
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_MAGIC) or is_webp or head[4:12] in _AVIF


def image_suffix(content: bytes) -> str:
    """The extension of an image by its first bytes; .png for other kinds, whose decoding then says what is wrong."""
    starts = {
        b"\xff\xd8": ".jpg",
        b"\x89PNG": ".png",
        b"BM": ".bmp",
        b"II*\0": ".tif",
        b"MM\0*": ".tif",
        b"RIFF": ".webp",
    }
    return next((suffix for start, suffix in starts.items() if content.startswith(start)), ".png")


def unknown_format(head: bytes) -> str:
    """Why a file cannot be read as an image, by its first 16 bytes or more."""
    if head[4:12] in _HEIC:
        return HEIC
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        return _NIFTI
    if head[:2] == b"\x1f\x8b":
        return f"a compressed file, not an image; {_NIFTI}"
    if head[4:12] in _AVIF:
        return "this Pillow does not read AVIF: install a newer one, or convert the file"
    return "not an image of a known format, or damaged at its beginning"


def count_kinds(files: Iterable[Path]) -> Counter[str]:
    """Number of files by kind, as text: ``.csv``, ``without extension``."""
    return Counter(kind_of(file) or "without extension" for file in files)


def describe_kinds(kinds: Counter[str]) -> list[str]:
    """One text per kind, the most frequent first: ``12 × .heic (HEIC is not read, ...)``."""
    return [
        f"{count:,} × {kind}" + (f" ({UNREAD_KINDS[kind]})" if kind in UNREAD_KINDS else "")
        for kind, count in kinds.most_common()
    ]


def unread_among(files: Iterable[str]) -> str:
    """Why some of these files are not read, and what to do; empty if there are none of such kinds."""
    listed = [name for name in files if name.lower().endswith(_UNREAD)]
    if not listed:
        return ""
    first = kind_of(Path(listed[0]))
    return f"{len(listed)} files such as {sample_of(listed, most=1)} ({first}): {UNREAD_KINDS[first]}"
