"""Image file → RGB square of a fixed size. Damaged files raise an error with a short reason.

JPEG is decoded by simplejpeg at the nearest larger DCT scale (several times faster than a full decode), DICOM by
`tametail.data.decoding.dicom`, everything else by Pillow, restricted to formats that start no other program. Of files
with several frames the first is used, of DICOM the middle one.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import DataError
from tametail.data.decoding.file_kinds import unknown_format
from tametail.data.decoding.shards import open_image

if TYPE_CHECKING:
    from PIL import Image

MAX_FILE_BYTES = 2**31  # larger than any image
MAX_PIXELS = 100_000_000  # 10 000 × 10 000: 300 MB once decoded; far above any photograph
# The formats of IMAGE_SUFFIXES; not EPS, which Pillow passes to Ghostscript.
_AVIF = () if find_spec("PIL.AvifImagePlugin") is None else ("AVIF",)  # since Pillow 11.3
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM", *_AVIF)
# First bytes of DICOM without a preamble: the lowest elements of groups 2 and 8.
_LOWEST = ((2, 0), (8, 0), (8, 1), (8, 5), (8, 8), (8, 22))
_BARE_DICOM = tuple(bytes([group, 0, element, 0]) for group, element in _LOWEST)
_ORIENTATION = 0x0112
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a tag of TIFF and one of its values
# Messages of libjpeg about data that are odd but complete, ...
_JPEG_ODD = (
    "extraneous bytes before marker", "invalid sos parameters", "inconsistent progression", "bad icc marker",
    "unknown adobe color transform", "unknown jfif revision",
)  # fmt: skip
# ... and about broken data. Its others are about kinds of JPEG that Pillow may support.
_JPEG_DAMAGE = ("premature end", "corrupt jpeg data", "bogus marker")
_END_OF_IMAGE = b"\xff\xd9"
_FULL_DEPTH = 16


def decode_image(
    source: str | Path | bytes, size: int, *, bit_depth: int | None = None, notes: list[str] | None = None
) -> NDArray[np.uint8]:
    """Decode one image to RGB, upright, with its centre square scaled to ``size`` pixels.

    Grey, palette and CMYK images are converted to RGB; transparent pixels are composited on black. Grey stored in more than
    8 bits is divided by the maximum of ``bit_depth`` bits, so that images of one set have one scale; integers outside 16
    bits and floats are stretched from their minimum to their maximum. The EXIF orientation is applied. For DICOM see
    `read_dicom`. Grey levels are scaled at full depth and rounded once.

    Args:
        source: path of an image file, or its bytes.
        size: side of the square in pixels, at least 1.
        bit_depth: bits of grey values that are stored in more than 8, see `bit_depth.find_bit_depth`; None for 16. Larger
            values are white.
        notes: a list to which a text is added where a JPEG is complete but not quite as the standard wants it.

    Returns:
        (size, size, 3) array.

    Raises:
        DataError: the file is absent, not an image, damaged, too large, or a package for DICOM is missing; the message
            does not include the path.
    """
    if isinstance(source, bytes):
        pixels = _decode(source, size, bit_depth, notes)
    else:
        data = _read(Path(source), leave_dicom=True)
        # DICOM is read from the path, as one frame may be a small part of the file.
        pixels = _decode_dicom(Path(source)) if data is None else _decode(data, size, bit_depth, notes)
    return _rgb(centre_square(pixels, size))


def square_of(
    image: Image.Image | NDArray[Any], size: int, *, bit_depth: int | None = None
) -> NDArray[np.uint8]:
    """An image in memory as `decode_image` returns one: RGB, upright, with its centre square scaled to ``size`` pixels.

    Args:
        image: of Pillow; or an array (H, W) or (H, W, 3) of uint8, or (H, W) of uint16, which is grey of ``bit_depth`` bits.

    Raises:
        DataError: it has no pixels, too many, or another shape or type.
    """
    if isinstance(image, np.ndarray):
        grey = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
        if (
            not (grey or (image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8))
            or not image.size
        ):
            raise DataError(
                f"expected an image (H, W) or (H, W, 3) of uint8, or (H, W) of uint16, got {image.shape} of {image.dtype}; convert it, "
                f"for example with PIL.Image.fromarray(...).convert('RGB')"
            )
        _check_pixels(image.shape[1], image.shape[0])
        wide = image.dtype == np.uint16
        levels = (
            _to_levels(image, bit_depth or _FULL_DEPTH)
            if wide
            else image.astype(np.float32)
            if grey
            else image
        )
        return _rgb(centre_square(levels, size))
    from PIL import Image, ImageOps

    try:
        if not all(image.size):
            raise DataError(f"expected an image with pixels, got {image.size[0]} × {image.size[1]}")
        _check_pixels(*image.size)
        pixels = _to_rgb(ImageOps.exif_transpose(image), bit_depth or _FULL_DEPTH, False)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"more than the {MAX_PIXELS:,} pixels allowed") from error
    except Exception as error:  # of a file that is damaged or closed, or an odd mode
        raise DataError(f"the image cannot be read ({str(error) or type(error).__name__})") from error
    return _rgb(centre_square(pixels, size))


def decode_whole(
    data: bytes, size: int, *, bit_depth: int | None = None, notes: list[str] | None = None
) -> NDArray[np.uint8]:
    """Decode the whole image (H, W, 3), upright; JPEG at a reduced scale with at least ``size`` pixels.

    For ``bit_depth`` and ``notes`` see `decode_image`.
    """
    return _rgb(_decode(data, size, bit_depth, notes))


def read_file(path: Path) -> bytes:
    """Read the bytes of any file.

    Raises:
        DataError: it cannot be read, is a folder, pipe or device, or larger than ``MAX_FILE_BYTES``.
    """
    return _read(path, leave_dicom=False) or b""


def _read(path: Path, *, leave_dicom: bool) -> bytes | None:
    """The bytes of a file, or None for DICOM with ``leave_dicom``."""
    try:
        with open_image(path) as file:
            size = file.seek(0, io.SEEK_END)
            if size > MAX_FILE_BYTES:
                raise DataError(f"the file has {size:,} bytes, more than the {MAX_FILE_BYTES:,} allowed")
            file.seek(0)
            if leave_dicom and not isinstance(file, io.BytesIO) and is_dicom(file.read(132)):
                return None
            file.seek(0)
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"the file cannot be read ({getattr(error, 'strerror', None) or error})") from error


def is_dicom(head: bytes) -> bool:
    """Whether a file is DICOM, with or without preamble, by its first 132 bytes or more."""
    return head[128:132] == b"DICM" or head.startswith(_BARE_DICOM)


def _decode(data: bytes, size: int, bit_depth: int | None, notes: list[str] | None) -> NDArray[Any]:
    """(H, W, 3) uint8 or (H, W) float32 from 0 to 255, upright."""
    if not data:
        raise DataError("the file is empty")
    if is_dicom(data):
        return _decode_dicom(data)
    pixels = _decode_jpeg(data, size, notes) if data[:2] == b"\xff\xd8" else None
    return _decode_pillow(data, bit_depth) if pixels is None else pixels


def _decode_dicom(source: Path | bytes) -> NDArray[Any]:
    from tametail.data.decoding.dicom import read_dicom

    with without_warnings():
        return read_dicom(source, MAX_PIXELS)


def _decode_jpeg(data: bytes, size: int, notes: list[str] | None) -> NDArray[np.uint8] | None:
    """(H, W, 3) with the shorter side at least ``size`` if the file is that large; None if simplejpeg cannot decode it."""
    import simplejpeg

    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(width, height)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size)
    except ValueError as error:
        message = str(error).lower()
        if any(words in message for words in _JPEG_ODD):
            _note(notes, str(error))
            return None  # Pillow reads on after a warning, and fails where data are missing
        if "premature end of jpeg file" in message and not data.endswith(_END_OF_IMAGE):
            # Complete if nothing but the end marker is missing: otherwise the next attempt fails with another message.
            pixels_of_rest = _decode_jpeg(data + _END_OF_IMAGE, size, None)
            _note(notes, "the end marker is missing")
            return pixels_of_rest
        if any(words in message for words in _JPEG_DAMAGE):
            raise DataError(f"the file is damaged or truncated ({error})") from error
        return None
    return _upright(pixels, _jpeg_orientation(data))


def _note(notes: list[str] | None, text: str) -> None:
    if notes is not None:
        notes.append(text)


def _jpeg_orientation(data: bytes) -> int:
    if not _has_exif(data):  # saves time for the many files without
        return 1
    from PIL import Image

    try:
        with without_warnings(), Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the pixels are valid; a broken orientation is ignored
        return 1


def _has_exif(data: bytes) -> bool:
    """Whether a segment before the pixels holds EXIF; colour profiles and previews of any length may precede it."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:  # the pixels
            return False
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF orientations 1 to 8 to pixels (H, W, 3) as stored."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels


def _decode_pillow(data: bytes, bit_depth: int | None) -> NDArray[Any]:
    """(H, W, 3) uint8 or (H, W) float32 from 0 to 255, upright."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with without_warnings(), Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            _check_pixels(*image.size)
            image.load()
            # Pillow inverts WhiteIsZero of at most 8 bits only.
            inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
            return _to_rgb(ImageOps.exif_transpose(image), bit_depth or _FULL_DEPTH, inverted)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(unknown_format(data)) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"more than the {MAX_PIXELS:,} pixels allowed") from error
    except Exception as error:
        raise DataError(f"the file is damaged or truncated ({str(error) or type(error).__name__})") from error


def _check_pixels(width: int, height: int) -> None:
    """Check the header, before memory is allocated for the pixels."""
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} × {height} pixels, more than the {MAX_PIXELS:,} allowed")


def _to_rgb(image: Image.Image, bit_depth: int, inverted: bool) -> NDArray[Any]:
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        levels = _to_levels(np.asarray(image), bit_depth)
        return np.clip(255 - levels, 0, 255) if inverted else levels
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _to_levels(values: NDArray[Any], bit_depth: int) -> NDArray[np.float32]:
    """Map grey levels of any depth (H, W) to 0 to 255, linearly, without rounding; for the range see `decode_image`."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise DataError("it holds values that are not numbers")
    if values.dtype.kind != "f" and low >= 0 and high <= 65535:
        low, high = 0.0, float(2**bit_depth - 1)
    scale = 255 / (high - low) if high > low else 0.0
    return np.asarray((values.astype(np.float64) - low) * scale, dtype=np.float32)


def _rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 or (H, W) float32 from 0 to 255 → (H, W, 3) uint8."""
    if pixels.ndim == 3:
        return pixels
    rounded = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
    return np.repeat(rounded[:, :, None], 3, axis=2)


def centre_square(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Scale the shorter side of an image (H, W, ...) to ``size`` and crop the centre: (size, size, ...)."""
    import cv2

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side == size:
        return square
    method = cv2.INTER_AREA
    if 4 * side <= 5 * size:  # near a factor of 1 linear interpolation is as good, and five times as fast
        method = cv2.INTER_LINEAR if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), dtype=pixels.dtype)


_silence_lock = threading.Lock()
_silent: list[Any] = []


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress warnings about irregular files; of several threads the first sets the filter, the last restores it."""
    with _silence_lock:
        if not _silent:
            saved = warnings.catch_warnings()
            saved.__enter__()
            warnings.simplefilter("ignore")
            _silent.append(saved)
        _silent.append(None)
    try:
        yield
    finally:
        with _silence_lock:
            _silent.pop()
            if len(_silent) == 1:
                _silent.pop().__exit__(None, None, None)
