"""Statistics of image files: format, size, digest, thumbnail and irregularities.

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
from tametail.core.arrays import BoolArray
from tametail.core.errors import DataError
from tametail.data.decoding.decode import IMAGE_FORMATS, centre_square, decode_whole, is_dicom, read_file

THUMBNAIL = 64
_TEXT_SIDE = 512  # pixels of the longer side of an image that is searched for text
_CHUNK = 256  # images processed at a time: bounds the memory
# Formats by Pillow's names, and their extensions.
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",), "GIF": (".gif",), "WEBP": (".webp",), "JPEG2000": (".jp2",), "PPM": (".ppm", ".pgm"),
    "DICOM": (".dcm", ".dicom", ""),
}  # fmt: skip


@dataclass(frozen=True)
class FileStats:
    """Statistics of one file.

    Attributes:
        error: why it cannot be read, or None.
        digest: hash of its bytes, empty if they cannot be read.
        kind: format by content, such as JPEG.
        width, height: pixels as stored.
        mode: Pillow's name of the pixel format, such as RGB or I;16.
        bytes: length of the file.
        frames: whether there are several frames; the first one (DICOM: the middle one) is used.
        text: whether there seems to be text on the image.
        std: standard deviation of the grey levels of the thumbnail; 0 for a blank image.
        wrong_extension: whether the extension is of another format than the content.
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
    std: float = 0.0
    wrong_extension: bool = False


@dataclass(frozen=True, eq=False)
class ImageStats:
    """Statistics of the N files of a table, and grey thumbnails (N, T, T) uint8, zeros for unreadable files."""

    files: Sequence[FileStats]
    thumbnails: NDArray[np.uint8]

    @property
    def readable(self) -> BoolArray:
        """(N,) whether each file can be read as an image."""
        return np.array([file.error is None for file in self.files], dtype=np.bool_)


def collect_stats(paths: Sequence[Path], *, advance: Callable[[int], None] | None = None) -> ImageStats:
    """Read N files, on all cores.

    Args:
        advance: progress callback, called with the number of files processed since the last call.
    """
    thumbnails = _zeros(len(paths))
    files: list[FileStats] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            for row, (file, thumbnail) in enumerate(pool.map(_read_stats, chunk), start=start):
                files.append(file)
                if thumbnail is not None:
                    thumbnails[row] = thumbnail
            if advance is not None:
                advance(len(chunk))
    return ImageStats(files, thumbnails)


def stats_of_pixels(pixels: NDArray[np.uint8], digests: Sequence[str]) -> ImageStats:
    """Statistics of decoded squares (N, S, S, 3) and digests, without those that need the file."""
    thumbnails = _zeros(len(pixels))
    files = []
    for row, digest in enumerate(digests):
        thumbnails[row] = thumbnail_of(pixels[row])
        files.append(FileStats(digest=digest, std=float(thumbnails[row].std())))
    return ImageStats(files, thumbnails)


def _zeros(images: int) -> NDArray[np.uint8]:
    """Zeros (N, T, T), stored on disk, so that a very large set takes no memory."""
    shape = (max(images, 1), THUMBNAIL, THUMBNAIL)
    with tempfile.TemporaryFile() as file:  # the mapping outlives the file's name and handle
        file.truncate(int(np.prod(shape)))
        return np.memmap(file, np.uint8, "r+", shape=shape)[:images]


def thumbnail_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, T) grey levels of the centre square of an image (H, W, 3)."""
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return np.asarray(centre_square(grey, THUMBNAIL), dtype=np.uint8)


def _read_stats(path: Path) -> tuple[FileStats, NDArray[np.uint8] | None]:
    try:
        data = read_file(path)
    except DataError as error:
        return FileStats(error=str(error)), None
    digest, length = hashlib.blake2b(data, digest_size=16).hexdigest(), len(data)
    try:
        pixels = decode_whole(data, _TEXT_SIDE)
        kind, width, height, mode, frames = _header(data)
    except DataError as error:
        return FileStats(error=str(error), digest=digest, bytes=length), None
    thumbnail = thumbnail_of(pixels)
    extensions = _EXTENSIONS.get(kind, (path.suffix.lower(),))
    stats = FileStats(
        digest=digest,
        kind=kind,
        width=width,
        height=height,
        mode=mode,
        bytes=length,
        frames=frames,
        text=holds_text(pixels),
        std=float(thumbnail.std()),
        # 1.2.840.5 is a name, not an extension.
        wrong_extension=path.suffix.lower() not in extensions and not path.suffix[1:].isdigit(),
    )
    return stats, thumbnail


def _header(data: bytes) -> tuple[str, int, int, str, bool]:
    """Format, width, height, mode and whether there are several frames, without decoding."""
    from PIL import Image

    if is_dicom(data):
        return _dicom_header(data)
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            several = bool(getattr(image, "is_animated", False)) or _has_second_frame(image)
            return str(image.format), image.width, image.height, image.mode, several
    except Exception:  # noqa: BLE001 - the pixels could be decoded; the rest of the header is optional
        return "", 0, 0, "", False


def _has_second_frame(image: object) -> bool:
    if getattr(image, "format", None) not in {"TIFF", "GIF", "WEBP", "PNG"}:
        return False
    try:
        image.seek(1)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - any failure means that there is no second frame
        return False
    return True


def _dicom_header(data: bytes) -> tuple[str, int, int, str, bool]:
    try:
        import pydicom

        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        mode = f"{header.get('PhotometricInterpretation', '')} {header.get('BitsStored', '')} bit".strip()
        frames = int(header.get("NumberOfFrames", 1) or 1)
        return "DICOM", int(header.get("Columns", 0)), int(header.get("Rows", 0)), mode, frames > 1
    except Exception:  # noqa: BLE001 - the pixels could be decoded; the rest of the header is optional
        return "DICOM", 0, 0, "", False
