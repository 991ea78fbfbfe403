"""Search for crops: images that show the middle of another one, enlarged.

The lowest frequencies of the centre of each image, cropped at several scales, are looked up among those of whole images; the nearest ones
are aligned, and correlate as copies do, or not. It finds crops of 60 to 96 % of the side near the centre, not all others.
Shape legend: N images, T thumbnail side.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.audit.copy_search import correlations, fine, principal_directions
from tametail.audit.image_stats import THUMBNAIL, mapped_zeros
from tametail.audit.near_points import Floats
from tametail.core.arrays import IntArray, few_of_each

_SCALES = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.66, 0.62)  # of the side
_LARGEST = 0.97  # of the side; above, an image is as good as whole
_LOW = 8  # side of the square of lowest frequencies
_DIMENSIONS = 16  # principal components that propose pairs
# Distance of the lowest frequencies, scaled to length 1, that correlate by 0.98: of a crop that is moved or scaled by a few percent.
_DISTANCE = 0.2
_NEAREST = 2  # images looked at for each crop
_PER_BUCKET, _MOST_OF_A_BUCKET = 8, 64  # images
_PROBED = 2  # coordinates whose other side is tried
_QUERIES = 4096  # crops looked up at a time
_COARSE, _COARSE_SIDE = (
    0.96,
    32,
)  # correlation of small images aligned to a pixel, from which thumbnails are aligned, and their side
_WHOLE = 0.98  # correlation of aligned thumbnails
_FINE = 2  # pixels of the fine alignment per pixel of a thumbnail
_MOVED = 3  # small pixels that the middle of a crop may be from that of the whole
_SMOOTH = 1.5  # pixels of a thumbnail
_COMPONENTS_FROM = 20_000  # images that determine the principal components
_FEWEST = 1e-3  # length of the lowest frequencies of a centre, below which it is blank


@dataclass(frozen=True)
class Crop:
    """Position of an image and of one that shows a part of it, and the correlation of their detail, aligned."""

    whole: int
    part: int
    detail: float


def find_crops(thumbnails: NDArray[np.uint8], rows: IntArray, block_size: int) -> list[Crop]:
    """Crops among N images, by their thumbnails.

    Args:
        thumbnails: of all images.
        rows: (N,) those that are compared, none of them blank; the crops name positions in ``rows``.
        block_size: images that are transformed at a time; it bounds the memory and changes no result.
    """
    if len(rows) < 2:
        return []
    candidates = _candidates(thumbnails, rows, block_size)

    def confirmed(candidate: tuple[int, int, float]) -> Crop | None:
        whole, part, scale = candidate
        detail = _aligned_detail(thumbnails[rows[whole]], thumbnails[rows[part]], scale)
        return None if detail is None else Crop(whole, part, detail)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [crop for crop in pool.map(confirmed, candidates, chunksize=64) if crop is not None]


def _candidates(
    thumbnails: NDArray[np.uint8], rows: IntArray, block_size: int
) -> Sequence[tuple[int, int, float]]:
    """(whole, part, scale) of images of which one, cropped, has the lowest frequencies of the other; the best scale of each pair."""
    bases = [_cropped_basis(scale) for scale in (1.0, *_SCALES)]
    low = mapped_zeros((len(bases), len(rows), _LOW**2 - 1), np.float32)
    for start in range(0, len(rows), block_size):
        found = _low(thumbnails[rows[start : start + block_size]], bases)
        low[:, start : start + block_size] = found
    centre = low[0].mean(axis=0)
    sample = low[0][:: max(len(rows) // _COMPONENTS_FROM, 1)] - centre
    directions = principal_directions(sample, _DIMENSIONS)
    buckets = Buckets.of((low[0] - centre) @ directions)
    best: dict[tuple[int, int], tuple[float, float]] = {}
    for scale, cropped in zip(_SCALES, low[1:], strict=True):
        for start in range(0, len(rows), _QUERIES):
            own = np.arange(start, min(start + _QUERIES, len(rows)))
            pairs = buckets.near((cropped[own] - centre) @ directions, _DISTANCE)
            pairs[:, 0] += start
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
            square = np.square(cropped[pairs[:, 0]] - low[0][pairs[:, 1]]).sum(axis=1)
            nearest = np.argsort(square, kind="stable")
            nearest = nearest[square[nearest] <= _DISTANCE**2]
            for at in few_of_each(nearest, pairs[:, 0].astype(np.str_), _NEAREST, len(pairs)):
                key, seen = (int(pairs[at, 0]), int(pairs[at, 1])), (float(square[at]), scale)
                best[key] = min(best.get(key, seen), seen)
    return [(whole_row, part_row, scale) for (whole_row, part_row), (_, scale) in sorted(best.items())]


@dataclass(frozen=True, eq=False)
class Buckets:
    """N points by the side of the median on which each of their first coordinates is.

    Attributes:
        points: (N, D).
        median: (B,) of the first coordinates.
        row: (N,) rows by bucket.
        start: (2^B + 1,) first of each bucket.
    """

    points: Floats
    median: Floats
    row: IntArray
    start: IntArray

    @classmethod
    def of(cls, points: Floats) -> Buckets:
        """As many buckets as give each a few points."""
        bits = int(np.clip(math.log2(max(len(points) / _PER_BUCKET, 1)), 0, points.shape[1]))
        median = np.median(points[:, :bits], axis=0).astype(np.float32)
        code = _codes(points, median)
        row = np.argsort(code, kind="stable")
        return cls(points, median, row, np.searchsorted(code[row], np.arange(2**bits + 1)))

    def near(self, queries: Floats, radius: float) -> IntArray:
        """Pairs (P, 2) of a query and a point within the radius.

        They are looked for in the bucket of the query, and in those that it would be in on the other side of the medians nearest to it.
        """
        code, margin = _codes(queries, self.median), np.abs(queries[:, : len(self.median)] - self.median)
        nearest = np.argsort(margin, axis=1)[:, :_PROBED]
        found = []
        for flips in range(2 ** nearest.shape[1]):
            flipped = [1 << nearest[:, at] for at in range(nearest.shape[1]) if flips >> at & 1]
            bucket = np.bitwise_xor.reduce([code, *flipped])
            size = np.minimum(self.start[bucket + 1] - self.start[bucket], _MOST_OF_A_BUCKET)
            query = np.repeat(np.arange(len(queries)), size)
            place = np.arange(len(query)) - np.repeat(np.cumsum(size) - size, size)
            point = self.row[np.repeat(self.start[bucket], size) + place]
            close = np.square(queries[query] - self.points[point]).sum(axis=1) <= radius**2
            found.append(np.stack([query[close], point[close]], axis=1))
        return np.concatenate(found)


def _codes(points: Floats, median: Floats) -> IntArray:
    """(N,) bucket of each point."""
    return np.asarray((points[:, : len(median)] > median) @ (1 << np.arange(len(median))), dtype=np.int64)


def _cropped_basis(scale: float) -> Floats:
    """(L, T): the lowest cosines over the middle of a side, ``scale`` of it, and zeros outside."""
    margin, length = THUMBNAIL * (1 - scale) / 2, THUMBNAIL * scale
    x = np.arange(THUMBNAIL)
    inside = np.clip(np.minimum(x + 1, margin + length) - np.maximum(x, margin), 0, 1)
    basis = np.cos(np.pi * np.arange(_LOW)[:, None] * (x + 0.5 - margin) / length) * math.sqrt(2 / length)
    basis[0] /= math.sqrt(2)
    return np.asarray(basis * inside, dtype=np.float32)


def _low(images: NDArray[np.uint8], bases: Sequence[Floats]) -> list[Floats]:
    """For each basis the lowest frequencies (N, L * L - 1) but the mean, of length 1; zeros for a blank image."""
    grey = images.astype(np.float32)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    stacked = np.concatenate(bases) @ grey
    found = []
    for number, basis in enumerate(bases):
        low = (stacked[:, number * _LOW : (number + 1) * _LOW] @ basis.T).reshape(len(images), -1)[:, 1:]
        length = np.linalg.norm(low, axis=1, keepdims=True)
        found.append(
            np.where(length > _FEWEST * THUMBNAIL, low / np.maximum(length, 1e-9), 0).astype(np.float32)
        )
    return found


def _aligned_detail(whole: NDArray[np.uint8], part: NDArray[np.uint8], scale: float) -> float | None:
    """Correlation of the detail of a part and of its place in a whole; None if they are not alike, or the part is not smaller."""
    import cv2

    small = _resized(whole, _COARSE_SIDE)
    coarse, side, at = _place(small, part, round(_COARSE_SIDE * scale), 1, _MOVED)
    if coarse < _COARSE:
        return None
    size = _FINE * THUMBNAIL
    enlarged = np.asarray(cv2.resize(whole, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    factor = size // _COARSE_SIDE
    middle = (factor * (at[0] + side / 2), factor * (at[1] + side / 2))
    score, side, (x, y) = _place(enlarged, part, factor * side, factor, factor, middle)
    if score < _WHOLE or side > _LARGEST * size:
        return None
    place, copy = enlarged[y : y + side, x : x + side], _resized(part, side)
    smooth = _FINE * _SMOOTH
    return float(correlations(fine(place[None], smooth), fine(copy[None], smooth))[0])


def _place(
    whole: NDArray[np.uint8],
    part: NDArray[np.uint8],
    side: int,
    more: int,
    moved: int,
    middle: tuple[float, float] | None = None,
) -> tuple[float, int, tuple[int, int]]:
    """Best correlation of a part with a place in a whole, the side of the place and its corner (x, y), in pixels.

    Args:
        side: of the place, to within ``more``.
        middle: of the place (x, y), to within ``moved``; None for that of the whole.
    """
    import cv2

    size = len(whole)
    x, y = middle or (size / 2, size / 2)
    best: tuple[float, int, tuple[int, int]] = (-1.0, side, (0, 0))
    for length in range(max(side - more, _LOW), min(side + more, size) + 1):
        left, top = (max(math.floor(c - length / 2) - moved, 0) for c in (x, y))
        right, bottom = (min(math.ceil(c + length / 2) + moved, size) for c in (x, y))
        if right - left < length or bottom - top < length:
            continue
        scores = cv2.matchTemplate(
            whole[top:bottom, left:right], _resized(part, length), cv2.TM_CCOEFF_NORMED
        )
        _, score, _, (dx, dy) = cv2.minMaxLoc(scores)
        if score > best[0]:
            best = (float(score), length, (left + int(dx), top + int(dy)))
    return best


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    import cv2

    method = cv2.INTER_AREA if side <= len(image) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), dtype=np.uint8)
