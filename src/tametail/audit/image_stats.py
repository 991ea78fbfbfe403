"""What is seen of each image file: its kind, size and digest, a thumbnail, and what is odd about it.

Shape legend: N images, T thumbnail side.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.audit.burned_in import holds_text
from tametail.core.errors import DataError
from tametail.data.decoding.decode import FORMATS, centre_square, decode_whole, is_dicom, read_file

THUMBNAIL = 64
_SEEN = 512  # longest side at which text is looked for
_CHUNK = 256  # images at work at a time: bounds the memory
# What a file's beginning says it is, by Pillow's name, and the extensions that fit it.
_FITTING = {
    "JPEG": (".jpg", ".jpeg", ".jfif"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",), "GIF": (".gif",), "WEBP": (".webp",), "JPEG2000": (".jp2",), "PPM": (".ppm", ".pgm"),
    "DICOM": (".dcm", ".dicom", ""),
}  # fmt: skip


@dataclass(frozen=True)
class FileStats:
    """One file.

    Attributes:
        error: why it cannot be read, or None.
        digest: of its bytes; equal files have equal ones. Empty where they cannot be read.
        kind: format by content, such as JPEG.
        width, height: pixels as stored.
        mode: Pillow's name of the pixel format, such as RGB or I;16.
        bytes: length of the file.
        frames: whether there is more than one frame; the first (DICOM: the middle) one is taken.
        text: whether there seems to be writing on it.
        spread: standard deviation of the thumbnail's grey levels; 0 for a blank image.
        wrong_extension: its name says another format than its content.
    """

    error: str | None = None
    digest: str = ""
    kind: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    bytes: int = 0
    frames: bool = False
    text: bool = False
    spread: float = 0.0
    wrong_extension: bool = False


@dataclass(frozen=True, eq=False)
class ImageStats:
    """All files of a table: N looks, and grey thumbnails (N, T, T) uint8, zeros where unreadable."""

    looks: Sequence[FileStats]
    thumbnails: NDArray[np.uint8]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) whether each file is an image."""
        return np.array([look.error is None for look in self.looks], dtype=np.bool_)


def collect(paths: Sequence[Path], *, advance: Callable[[int], None] | None = None) -> ImageStats:
    """Look at files, on all cores.

    Args:
        paths: N files.
        advance: called with the number of files done since the last call.
    """
    thumbnails = _room(len(paths))
    looks: list[FileStats] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            for row, (look, thumbnail) in enumerate(pool.map(_look, chunk), start=start):
                looks.append(look)
                if thumbnail is not None:
                    thumbnails[row] = thumbnail
            if advance is not None:
                advance(len(chunk))
    return ImageStats(looks, thumbnails)


def of_pixels(pixels: NDArray[np.uint8], digests: Sequence[str]) -> ImageStats:
    """What can be told from decoded squares (N, S, S, 3) and digests, without opening a file again."""
    thumbnails = _room(len(pixels))
    looks = []
    for row, digest in enumerate(digests):
        thumbnails[row] = thumbnail_of(pixels[row])
        looks.append(FileStats(digest=digest, spread=float(thumbnails[row].std())))
    return ImageStats(looks, thumbnails)


def _room(images: int) -> NDArray[np.uint8]:
    """Zeros (N, T, T), kept on disk, so that a very large set takes no memory."""
    shape = (max(images, 1), THUMBNAIL, THUMBNAIL)
    with tempfile.TemporaryFile() as kept:  # the mapping outlives the file's name and handle
        kept.truncate(int(np.prod(shape)))
        return np.memmap(kept, np.uint8, "r+", shape=shape)[:images]


def thumbnail_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) → (T, T) grey, of the centre square."""
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return np.asarray(centre_square(grey, THUMBNAIL), dtype=np.uint8)


def _look(path: Path) -> tuple[FileStats, NDArray[np.uint8] | None]:
    try:
        data = read_file(path)
    except DataError as error:
        return FileStats(error=str(error)), None
    digest, length = hashlib.blake2b(data, digest_size=16).hexdigest(), len(data)
    try:
        pixels = decode_whole(data, _SEEN)
        kind, width, height, mode, frames = _header(data)
    except DataError as error:
        return FileStats(error=str(error), digest=digest, bytes=length), None
    thumbnail = thumbnail_of(pixels)
    fitting = _FITTING.get(kind, (path.suffix.lower(),))
    look = FileStats(
        digest=digest,
        kind=kind,
        width=width,
        height=height,
        mode=mode,
        bytes=length,
        frames=frames,
        text=holds_text(pixels),
        spread=float(thumbnail.std()),
        # 1.2.840.5 is a name, not an extension.
        wrong_extension=path.suffix.lower() not in fitting and not path.suffix[1:].isdigit(),
    )
    return look, thumbnail


def _header(data: bytes) -> tuple[str, int, int, str, bool]:
    """Format, width, height, mode and whether there are several frames; nothing is decoded."""
    from PIL import Image

    if is_dicom(data):
        return _dicom_header(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            several = bool(getattr(image, "is_animated", False)) or _has_second_frame(image)
            return str(image.format), image.width, image.height, image.mode, several
    except Exception:  # noqa: BLE001 - what could be decoded has pixels; its header's other words can be done without
        return "", 0, 0, "", False


def _has_second_frame(image: object) -> bool:
    if getattr(image, "format", None) not in {"TIFF", "GIF", "WEBP", "PNG"}:
        return False
    try:
        image.seek(1)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - whatever goes wrong, there is no second frame to be had
        return False
    return True


def _dicom_header(data: bytes) -> tuple[str, int, int, str, bool]:
    try:
        import pydicom

        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        mode = f"{header.get('PhotometricInterpretation', '')} {header.get('BitsStored', '')} bit".strip()
        frames = int(header.get("NumberOfFrames", 1) or 1)
        return "DICOM", int(header.get("Columns", 0)), int(header.get("Rows", 0)), mode, frames > 1
    except Exception:  # noqa: BLE001 - what could be decoded has pixels; its header's other words can be done without
        return "DICOM", 0, 0, "", False
