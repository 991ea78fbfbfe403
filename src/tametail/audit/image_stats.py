"""Statistics of image files: format, size, digest, thumbnail and irregularities.

Shape legend: N images, T thumbnail side.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tametail.core.arrays import BoolArray
from tametail.core.errors import DataError
from tametail.data.decoding.decode import IMAGE_FORMATS, centre_square, decode_whole, is_dicom, read_file
from tametail.data.row_store import RowStore

THUMBNAIL = 64
_TEXT_SIDE = 512  # pixels of the longer side of an image that is searched for text
_CHUNK = 256  # images processed at a time: bounds the memory
# Formats by Pillow's names, and their extensions.
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",), "GIF": (".gif",), "WEBP": (".webp",), "JPEG2000": (".jp2",), "PPM": (".ppm", ".pgm"), "AVIF": (".avif",),
    "DICOM": (".dcm", ".dicom", ""),
}  # fmt: skip
BLANK = 1.0  # standard deviation of the grey levels of a thumbnail, below which an image is blank
TINY = 32  # pixels of the shorter side, below which an image is tiny
_COLOURED = 12  # difference of the channels of a pixel with a colour
_FEW_PIXELS = 0.01  # share of them in a grey image
_STEP = 4  # of the pixels that are looked at
_CONTRAST = 70  # least difference of strokes from their background, in grey levels
_HEIGHT = (6, 40)  # of a letter, in pixels
_LETTERS = 5  # least number in a row
_STROKE = 9  # largest width of a stroke, in pixels

Box = tuple[int, int, int, int]  # x, y, width, height


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
        identifying: names of attributes of a DICOM header that identify a person; never their values.
        burned_in: whether a DICOM header declares text in the pixels.
        wrong_extension: whether the extension is of another format than the content.
        note: what is odd about a file that could be read; empty for nothing.
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
    identifying: tuple[str, ...] = ()
    burned_in: bool = False
    wrong_extension: bool = False
    note: str = ""


@dataclass(frozen=True, eq=False)
class ImageStats:
    """Statistics of the N files of a table, and grey thumbnails (N, T, T) uint8, zeros for unreadable files."""

    files: Sequence[FileStats]
    thumbnails: NDArray[np.uint8]

    @property
    def readable(self) -> BoolArray:
        """(N,) whether each file can be read as an image."""
        return np.array([file.error is None for file in self.files], dtype=np.bool_)


def collect_stats(
    paths: Sequence[Path], *, bit_depth: int | None = None, advance: Callable[[int], None] | None = None
) -> ImageStats:
    """Read N files, on all cores.

    Args:
        bit_depth: see `tametail.data.decode_image`.
        advance: progress callback, called with the number of files processed since the last call.
    """
    thumbnails = no_thumbnails(len(paths))
    files: list[FileStats] = []
    read = partial(_read_stats, bit_depth=bit_depth)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            for row, (file, thumbnail) in enumerate(pool.map(read, chunk), start=start):
                files.append(file)
                if thumbnail is not None:
                    thumbnails[row] = thumbnail
            if advance is not None:
                advance(len(chunk))
    return ImageStats(files, thumbnails)


def stats_of_pixels(
    pixels: RowStore | NDArray[np.uint8], digests: Sequence[str], notes: Sequence[str] | None = None
) -> ImageStats:
    """Statistics of decoded squares (N, S, S, 3), digests and notes, without those that need the file."""
    thumbnails = no_thumbnails(len(pixels))
    files = []
    for row, (image, digest) in enumerate(zip(pixels, digests, strict=True)):
        thumbnails[row] = thumbnail_of(image)
        note = notes[row] if notes else ""
        files.append(FileStats(digest=digest, std=float(thumbnails[row].std()), note=note))
    return ImageStats(files, thumbnails)


def mapped_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros of a shape (N, ...), stored on disk, so that a very large set takes no memory."""
    room = (max(shape[0], 1), *shape[1:])
    with tempfile.TemporaryFile() as file:  # the mapping outlives the file's name and handle
        file.truncate(math.prod(room) * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype, "r+", shape=room)[: shape[0]]


def no_thumbnails(images: int) -> NDArray[np.uint8]:
    """Black thumbnails (N, T, T)."""
    return mapped_zeros((images, THUMBNAIL, THUMBNAIL), np.uint8)


def is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W, 3) has no colour: the channels of nearly all pixels differ by what compression explains."""
    few = pixels[::_STEP, ::_STEP]
    spread = few.max(axis=2).astype(np.int16) - few.min(axis=2)
    return bool((spread > _COLOURED).mean() <= _FEW_PIXELS)


def thumbnail_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, T) grey levels of the centre square of an image (H, W, 3)."""
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return np.asarray(centre_square(grey, THUMBNAIL), dtype=np.uint8)


def _read_stats(path: Path, bit_depth: int | None) -> tuple[FileStats, NDArray[np.uint8] | None]:
    try:
        data = read_file(path)
    except DataError as error:
        return FileStats(error=str(error)), None
    stats = FileStats(digest=hashlib.blake2b(data, digest_size=16).hexdigest(), bytes=len(data))
    notes: list[str] = []
    try:
        pixels = decode_whole(data, _TEXT_SIDE, bit_depth=bit_depth, notes=notes)
    except DataError as error:
        return replace(stats, error=str(error)), None
    stats = with_header(stats, data)
    thumbnail = thumbnail_of(pixels)
    if stats.kind == "DICOM":
        from tametail.data.readers.dicom_headers import declares_burned_in_text, identifying_attributes

        burned_in = bool(declares_burned_in_text(path))
        stats = replace(stats, identifying=tuple(identifying_attributes(path)), burned_in=burned_in)
    return replace(
        stats,
        text=holds_text(pixels),
        std=float(thumbnail.std()),
        wrong_extension=has_wrong_extension(path, stats.kind),
        note="; ".join(notes),
    ), thumbnail


def has_wrong_extension(path: Path, kind: str) -> bool:
    """Whether the extension of a file is of another format than its content."""
    extension = os.path.splitext(path)[1].lower()  # three times as fast as path.suffix
    return extension not in _EXTENSIONS.get(kind, (extension,)) and not extension[1:].isdigit()


def with_header(stats: FileStats, data: bytes) -> FileStats:
    """Add format, width, height, mode and whether there are several frames, without decoding."""
    try:
        if is_dicom(data):
            import pydicom

            stats = replace(stats, kind="DICOM")
            header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            mode = f"{header.get('PhotometricInterpretation', '')} {header.get('BitsStored', '')} bit".strip()
            width, height = int(header.get("Columns", 0)), int(header.get("Rows", 0))
            frames = int(header.get("NumberOfFrames", 1) or 1) > 1
            return replace(stats, width=width, height=height, mode=mode, frames=frames)
        from PIL import Image

        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            kind, width, height, mode = str(image.format), image.width, image.height, image.mode
            frames = bool(getattr(image, "is_animated", False)) or _has_second_frame(image)
            return replace(stats, kind=kind, width=width, height=height, mode=mode, frames=frames)
    except Exception:  # noqa: BLE001 - the pixels could be decoded; the rest of the header is optional
        return stats


def _has_second_frame(image: object) -> bool:
    if getattr(image, "format", None) not in {"TIFF", "GIF", "WEBP", "PNG"}:
        return False
    try:
        image.seek(1)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - any failure means that there is no second frame
        return False
    return True


def holds_text(pixels: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W, 3) seems to have text on it; the longer side should be about 500 pixels.

    A heuristic: strokes of high contrast on a smooth background, of the size of letters, several of one height in a row.
    That it finds none proves nothing.
    """
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE, _STROKE))
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = cv2.morphologyEx(grey, operation, square) >= _CONTRAST
        # An image that is full of strokes has a texture, not a text.
        if strokes.any() and strokes.mean() < 0.05 and _has_line(_letters(strokes)):
            return True
    return False


def _letters(strokes: BoolArray) -> list[Box]:
    """Boxes of connected strokes that could be letters, from left to right."""
    import cv2

    count, _, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
    boxes = []
    for x, y, width, height, area in stats[1:count].tolist():
        fits = _HEIGHT[0] <= height <= _HEIGHT[1] and width <= 1.6 * height
        # Hairs and rulers are long or completely filled; letters are not.
        if fits and 0.15 <= area / (width * height) <= 0.9 and width >= 2:
            boxes.append((x, y, width, height))
    return sorted(boxes)


def _has_line(boxes: Sequence[Box]) -> bool:
    """Whether enough boxes of one height are next to each other on one line."""
    for start, box in enumerate(boxes):
        line = [box]
        for other in boxes[start + 1 :]:
            if other[0] - (line[-1][0] + line[-1][2]) > 1.5 * box[3]:
                break
            if other[0] >= line[-1][0] + line[-1][2] - 1 and _same_line(line[0], other):
                line.append(other)
        if len(line) >= _LETTERS and not _regular(line):
            return True
    return False


def _regular(line: Sequence[Box]) -> bool:
    """Whether boxes are of one width or equally spaced, as the ticks of a scale and the dots of a pattern are."""
    if len({width for _, _, width, _ in line}) < 3:
        return True
    steps = np.diff([x + width / 2 for x, _, width, _ in line])
    return bool(steps.std() < 0.12 * steps.mean())


def _same_line(left: Box, right: Box) -> bool:
    """Whether two boxes have about the same bottom edge and height."""
    high = max(left[3], right[3])
    bottoms = abs(left[1] + left[3] - right[1] - right[3])
    return bottoms <= 0.2 * high and min(left[3], right[3]) >= 0.65 * high
