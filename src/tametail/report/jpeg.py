"""Pixels → JPEG → data URL, for the small copies of images in pages."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray


def jpeg(pixels: NDArray[np.uint8], quality: int, side: int | None = None) -> bytes | None:
    """An RGB image (H, W, 3) as JPEG; None if it cannot be encoded.

    Args:
        side: of the square that it is scaled to first, if it is larger.
    """
    import cv2

    if side is not None and len(pixels) > side:
        pixels = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return data.tobytes() if done else None


def jpeg_url(data: bytes) -> str:
    """A JPEG as the source of an image in a page."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
