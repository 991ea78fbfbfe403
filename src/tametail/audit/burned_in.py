"""Detection of text that is burned into the pixels, such as names and numbers.

A heuristic: strokes of high contrast on a smooth background, of the size of letters, several of one height in a row.
It finds plain printed text. That it finds none proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTRAST = 70  # least difference of strokes from their background, in grey levels
_HEIGHT = (6, 40)  # of a letter, in pixels
_LETTERS = 5  # least number in a row
_STROKE = 9  # largest width of a stroke, in pixels

Box = tuple[int, int, int, int]  # x, y, width, height


def holds_text(pixels: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W, 3) seems to have text on it; the longer side should be about 500 pixels."""
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
