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


def quality_of(path: Path, pixels: NDArray[np.uint8], grey: float | None) -> str:
    """The flags of an image, joined by ``|``; empty for none.

    Args:
        path: of its file.
        pixels: decoded, (K, K, 3).
        grey: share of the training images that are grey; None if it is not known.
    """
    flags = []
    blank = float(thumbnail_of(pixels).std()) < BLANK
    if blank:
        flags.append(IS_BLANK)
    if is_tiny(path):
        flags.append(IS_TINY)
    if grey is not None and not blank:
        own = is_grey(pixels)
        if own and grey <= _NEARLY_NONE:
            flags.append(IS_GREY)
        elif not own and grey >= 1 - _NEARLY_NONE:
            flags.append(HAS_COLOUR)
    return LABEL_SEPARATOR.join(flags)


def is_tiny(path: Path) -> bool:
    """Whether the image in a file has fewer than 32 pixels on its shorter side; False if its header does not say."""
    try:
        stats = with_header(FileStats(), read_file(path))
    except DataError:
        return False
    return 0 < min(stats.width, stats.height) < TINY
