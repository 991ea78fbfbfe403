"""Small copies of images, kept in the study's folder so that a later report has them without the images."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import DataError
from tametail.data import decode_image

FOLDER = "thumbnails"
SIDE = 320  # pixels: twice what the page shows, for what a click enlarges
_QUALITY = 72
_MOST_BYTES = 30_000  # a page has up to 48 of them and stays under 5 MB
_JPEG = b"\xff\xd8\xff"


def thumbnails(directory: Path, names: Mapping[int, str], root: Path | None) -> dict[int, bytes]:
    """JPEGs by number, those that are kept and those that can be made; others are left out.

    Copies that are no longer asked for are removed, once all that are asked for are there.

    Args:
        directory: the study.
        names: of each number, the image's path under ``root``.
        root: the folder of the images; None where it is not known.

    Raises:
        OSError: a copy cannot be written.
    """
    folder = directory / FOLDER
    found = {number: copy for number in names if (copy := _kept(folder / _name(number))) is not None}
    wanted = [number for number in names if number not in found]
    if wanted and root is not None and root.is_dir():
        with ThreadPoolExecutor() as pool:
            made = pool.map(lambda number: small_copy(root / names[number]), wanted)
            new = {number: copy for number, copy in zip(wanted, made, strict=True) if copy is not None}
        if new:
            make_folder(folder)
        for number, copy in new.items():
            write_atomically(folder / _name(number), copy)
        found |= new
    if found and len(found) == len(names):
        _remove_others(folder, names)
    return found


def forget(directory: Path) -> None:
    """Remove the copies a study keeps, so that a folder that shows no images holds none either."""
    _remove_others(directory / FOLDER, {})
    with suppress(OSError):
        (directory / FOLDER).rmdir()


def small_copy(path: Path) -> bytes | None:
    """The centre square of an image as a JPEG of at most ``_MOST_BYTES`` or so; None where it cannot be read."""
    import cv2

    try:
        pixels = decode_image(path, SIDE)
    except DataError:
        return None
    for side in (SIDE, SIDE // 2):
        scaled = pixels if side == SIDE else cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(
            ".jpg", np.ascontiguousarray(scaled[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        )
        if not done:
            return None
        if data.nbytes <= _MOST_BYTES:
            break
    return bytes(data.tobytes())


def _name(number: int) -> str:
    return f"{number:07d}.jpg"


def _kept(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if content.startswith(_JPEG) else None


def _remove_others(folder: Path, names: Mapping[int, str]) -> None:
    keep = {_name(number) for number in names}
    for path in folder.glob("*.jpg"):
        if path.name not in keep:
            with suppress(OSError):
                path.unlink()
