"""Image file → RGB square of a fixed size. Every kind of damage is an error with a short reason.

JPEG is decoded by simplejpeg at the nearest larger DCT scale (several times faster than a full decode),
everything else by Pillow. Of files with several frames the first is taken.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tametail.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 100_000_000  # 10 000 × 10 000: 300 MB once decoded; far above any photograph
_ORIENTATION = 0x0112
# What libjpeg says of broken data. Its other complaints are about kinds of JPEG that Pillow may still know.
_JPEG_DAMAGE = ("premature end", "corrupt jpeg data", "bogus marker")


def decode_image(source: str | Path | bytes, size: int) -> NDArray[np.uint8]:
    """Decode one image to RGB, upright, its centre square scaled to ``size`` pixels.

    Grey and palette images become RGB; CMYK is converted; transparent pixels are laid on black (the padding of
    most medical images); 16-bit grey is divided by the largest value of the smallest depth of 8, 12 or 16 bits that
    holds it, so that 12-bit data keep their contrast; integers outside 16 bits and floats are stretched from their
    own minimum to their own maximum. The orientation noted in EXIF is applied.

    Args:
        source: path of an image file, or its bytes.
        size: side of the square in pixels, at least 1.

    Returns:
        (size, size, 3) array.

    Raises:
        DataError: the file is absent, empty, no image, damaged, truncated or of more than ``MAX_PIXELS`` pixels;
            the message is the reason, without the path.
    """
    data = source if isinstance(source, bytes) else _read(Path(source))
    if not data:
        raise DataError("the file is empty")
    pixels = _decode_jpeg(data, size) if data[:2] == b"\xff\xd8" else None
    if pixels is None:
        with _without_warnings():
            pixels = _decode_pillow(data)
    return _centre_square(pixels, size)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})") from error


def _decode_jpeg(data: bytes, size: int) -> NDArray[np.uint8] | None:
    """(H, W, 3) with the shorter side at least ``size`` where the file has that, or None: a job for Pillow."""
    import simplejpeg

    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(width, height)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", min_height=size, min_width=size)
    except ValueError as error:
        if any(word in str(error).lower() for word in _JPEG_DAMAGE):
            raise DataError(f"the file is damaged or truncated ({error})") from error
        return None
    return _upright(pixels, _jpeg_orientation(data))


def _jpeg_orientation(data: bytes) -> int:
    if b"Exif\0\0" not in data[:65536]:  # spares Pillow for the many files without
        return 1
    from PIL import Image

    with _without_warnings():
        try:
            with Image.open(io.BytesIO(data)) as image:
                return int(image.getexif().get(_ORIENTATION, 1))
        except Exception:  # noqa: BLE001 - the pixels are sound; a broken note of orientation is no note
            return 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo EXIF orientations 1 to 8: (H, W, 3) as stored → as meant to be seen."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels


def _decode_pillow(data: bytes) -> NDArray[np.uint8]:
    """(H, W, 3), upright."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_pixels(*image.size)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("not an image of a known format, or damaged at its beginning") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"more than the {MAX_PIXELS:,} pixels allowed") from error
    except Exception as error:
        raise DataError(f"the file is damaged or truncated ({str(error) or type(error).__name__})") from error


def _check_pixels(width: int, height: int) -> None:
    """Runs on the header, before memory is taken for the pixels."""
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} × {height} pixels, more than the {MAX_PIXELS:,} allowed")


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        return np.repeat(_to_8_bit(np.asarray(image))[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", seen.size, "black"), seen).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _to_8_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey levels of any depth (H, W) → 0 to 255, linear; see `decode_image` for the range taken."""
    levels = values.astype(np.float64)
    low, high = float(levels.min()), float(levels.max())
    if not np.isfinite(high - low):
        raise DataError("it holds values that are not numbers")
    if values.dtype.kind != "f" and low >= 0 and high <= 65535:
        low, high = 0.0, next(top for top in (255.0, 4095.0, 65535.0) if high <= top)
    return np.rint((levels - low) * (255 / max(high - low, np.finfo(np.float64).tiny))).astype(np.uint8)


def _centre_square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(H, W, 3) → (size, size, 3): the same as scaling the shorter side to ``size`` and cutting the centre."""
    import cv2

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side == size:
        return square
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), dtype=np.uint8)


_silence_lock = threading.Lock()
_silent: list[Any] = []


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow's notes on odd files are not the user's concern: what matters is raised as an error.

    `warnings.catch_warnings` sets and restores state of the whole process, so of the threads inside at one time
    the first sets it and the last restores it.
    """
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
