"""Flags of images that no model should be asked about: blank, tiny, or in another colour mode than the training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.audit.image_stats import BLANK, TINY, FileStats, is_grey, thumbnail_of, with_header
from tametail.core.errors import DataError
from tametail.data.decoding.decode import read_file
from tametail.data.table import LABEL_SEPARATOR

_NEARLY_NONE = 0.01  # share of images of the other colour mode in a set of one mode
QUALITY = "quality"  # column of predictions
IS_BLANK, IS_TINY = "blank", "tiny"
IS_GREY = "grey, but the training images are in colour"
HAS_COLOUR = "in colour, but the training images are grey"


def quality_of(image: object, pixels: NDArray[np.uint8], grey: float | None) -> str:
    """The flags of an image, joined by ``|``; empty for none.

    Args:
        image: its file, or the image itself, of Pillow or as an array (H, W, ...).
        pixels: decoded, (K, K, 3).
        grey: share of the training images that are grey; None if it is not known.
    """
    flags = []
    blank = float(thumbnail_of(pixels).std()) < BLANK
    if blank:
        flags.append(IS_BLANK)
    if 0 < shorter_side(image) < TINY:
        flags.append(IS_TINY)
    if grey is not None and not blank:
        own = is_grey(pixels)
        if own and grey <= _NEARLY_NONE:
            flags.append(IS_GREY)
        elif not own and grey >= 1 - _NEARLY_NONE:
            flags.append(HAS_COLOUR)
    return LABEL_SEPARATOR.join(flags)


def shorter_side(image: object) -> int:
    """The pixels of the shorter side of an image, see `quality_of`; 0 if the header of a file does not say."""
    if isinstance(image, np.ndarray):
        return min(map(int, image.shape[:2]))
    if not isinstance(image, str | Path):
        return min(map(int, image.size))  # type: ignore[attr-defined]
    try:
        stats = with_header(FileStats(), read_file(Path(image)))
    except DataError:
        return 0
    return min(stats.width, stats.height)
