"""Pixels → PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def save_png(pixels: NDArray[Any], path: Path) -> None:
    """Write (H, W), (H, W, 1) or (H, W, 3) uint8 to a PNG file."""
    from PIL import Image

    plain = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    # The fastest level of zlib: half the time for a tenth more bytes.
    Image.fromarray(np.ascontiguousarray(plain)).save(path, compress_level=1)
