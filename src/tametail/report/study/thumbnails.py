"""Thumbnails of images, saved in the study's folder so that later reports work without the images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.removal import remove
from tametail.data import decode_image
from tametail.report.jpeg import jpeg

THUMBNAILS = "thumbnails"
SIDE = 320  # pixels: twice the size on the page, for enlargement
_QUALITY = 72
_MOST_BYTES = 30_000  # a page has up to 48 thumbnails and stays below 5 MB
_JPEG = b"\xff\xd8\xff"


def thumbnails(
    directory: Path, names: Mapping[int, str], root: Path | None, bit_depth: int | None = None
) -> dict[int, bytes]:
    """JPEGs by number: saved ones, and new ones where the image can be read.

    Saved thumbnails that are no longer needed are removed once all others are available.

    Args:
        directory: the study.
        names: path of each image under ``root``, by number.
        root: the folder of the images; None if unknown.
        bit_depth: see `tametail.data.decode_image`.

    Raises:
        OSError: a thumbnail cannot be written.
    """
    folder = directory / THUMBNAILS
    found = {number: copy for number in names if (copy := _saved(folder / _name(number))) is not None}
    wanted = [number for number in names if number not in found]
    if wanted and root is not None and root.is_dir():
        with ThreadPoolExecutor() as pool:
            made = pool.map(lambda number: small_copy(root / names[number], bit_depth), wanted)
            new = {number: copy for number, copy in zip(wanted, made, strict=True) if copy is not None}
        if new:
            make_folder(folder)
        for number, copy in new.items():
            write_atomically(folder / _name(number), copy)
        found |= new
    if found and len(found) == len(names):
        _remove_others(folder, names)
    return found


def remove_thumbnails(directory: Path) -> None:
    """Remove all thumbnails of a study."""
    _remove_others(directory / THUMBNAILS, {})


def small_copy(path: Path, bit_depth: int | None = None) -> bytes | None:
    """The centre square of an image as a JPEG of at most ``_MOST_BYTES`` or so; None where it cannot be read."""
    try:
        pixels = decode_image(path, SIDE, bit_depth=bit_depth)
    except DataError:
        return None
    data = jpeg(pixels, _QUALITY)
    return jpeg(pixels, _QUALITY, SIDE // 2) if data and len(data) > _MOST_BYTES else data


def _name(number: int) -> str:
    return f"{number:07d}.jpg"


def _saved(path: Path) -> bytes | None:
    try:
        content = regular(path).read_bytes()
    except OSError:
        return None
    return content if content.startswith(_JPEG) else None


def _remove_others(folder: Path, names: Mapping[int, str]) -> None:
    keep = {_name(number) for number in names}
    own = re.compile(r"\d{7,}\.jpg")
    remove(
        folder.parent.resolve() / folder.name,
        lambda name: own.fullmatch(name) is not None and name not in keep,
    )
