"""Search for copies of images: saved again, inverted, mirrored or rotated by multiples of 90°. Its time is sub-quadratic.

Two thumbnails of length 1 and mean 0 correlate above r exactly if their distance is below sqrt(2 - 2r). A map that never increases
distances therefore loses no pair. Such maps are made of the discrete cosine transform: mirroring and inverting change only signs of its
coefficients, and rotating also swaps its axes, so that their magnitudes, sorted within swapped pairs, are the same for all 16 variants of an
image. Their principal components, in cells of near points, propose pairs, all coefficients exclude most variants, and the
thumbnails decide: the result is that of comparing all pairs.

This is exact for the criterion itself. Multi-index hashing of perceptual hashes is exact for the hash only, and needs half the work of
comparing all pairs where 14 of 64 bits may differ.
Shape legend: N images, P pairs, T thumbnail side, K side of the square of lowest frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.audit.image_stats import THUMBNAIL, mapped_zeros
from tametail.audit.near_points import Cells, Floats
from tametail.core.arrays import BoolArray, FloatArray, IntArray

CORRELATION = 0.99  # of grey levels at T x T, above which two images may be the same
# Detail is the difference from a Gaussian blur of _SMOOTH pixels. Smooth images of different patients correlate above
# 0.99, but their detail does not. Copies saved at JPEG quality 60 or at half the size have a detail correlation of 0.85.
_SMOOTH = 1.5
_ROUNDING = 1e-3  # of distances in float32
_DISTANCE = math.sqrt(2 - 2 * CORRELATION) + _ROUNDING  # of thumbnails of length 1 that correlate so
# Pairs per image that are proposed at most: sets of smooth images have millions of pairs above the limit. The nearest are taken.
_PROPOSED = 100
_LOW = 16  # K
_TILE = 8  # coefficients outside the K x K square are known by the length of each tile
_DIMENSIONS = 24  # principal components that propose pairs
_COMPONENTS_FROM = 20_000  # images that determine the principal components
_PAIRS = 2048  # compared at a time


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to mirror and rotate a square: first transposed, then mirrored."""

    transposed: bool
    upside_down: bool
    mirrored: bool

    @property
    def name(self) -> str:
        """In words; empty for the identity."""
        flips = self.upside_down + self.mirrored
        if self.transposed:
            return "rotated" if flips == 1 else "mirrored and rotated"
        return ("", "mirrored", "rotated")[flips]

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(P, T, T) → (P, T, T)."""
        turned = images.transpose(0, 2, 1) if self.transposed else images
        return turned[:, :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


TURNS = tuple(Turn(t, y, x) for t in (False, True) for y in (False, True) for x in (False, True))


@dataclass(frozen=True, eq=False)
class Copies:
    """P pairs of images that correlate like copies, each with the turn that makes them most alike.

    Attributes:
        pairs: (P, 2) positions a < b.
        turn: (P,) index in `TURNS`, 0 for the identity.
        detail: (P,) correlation of their detail; negative if detail and grey levels differ in sign.
    """

    pairs: IntArray
    turn: IntArray
    detail: FloatArray


def find_copies(thumbnails: NDArray[np.uint8], rows: IntArray, block_size: int) -> Copies:
    """Pairs of N images that correlate above `CORRELATION` in one of their 16 variants, by their thumbnails.

    Args:
        thumbnails: of all images.
        rows: (N,) those that are compared, none of them blank; pairs are of positions in ``rows``.
        block_size: images that are transformed or queried at a time; it bounds the memory and changes no result.
    """
    found: list[tuple[IntArray, IntArray, FloatArray]] = [
        (np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    ]
    if len(rows) > 1:
        low, tiles = _coefficients(thumbnails, rows, block_size)
        points = _components(low, tiles, block_size)
        for pairs in _proposed(points):
            for some in np.array_split(pairs, max(math.ceil(len(pairs) / _PAIRS), 1)):
                near = _possible_turns(low, tiles, some)
                found.append(_confirmed(thumbnails, rows, some, near))
    pairs, turn, detail = (np.concatenate([one[column] for one in found]) for column in range(3))
    return Copies(pairs, turn, detail)


def _coefficients(thumbnails: NDArray[np.uint8], rows: IntArray, block_size: int) -> tuple[Floats, Floats]:
    """(N, K, K) lowest coefficients of the cosine transform of unit thumbnails, and (N, T / 8, T / 8) lengths of the other tiles.

    They are stored on disk, so that a very large set takes no memory.
    """
    side, tiles_per_side = THUMBNAIL, THUMBNAIL // _TILE
    basis = cosine_basis(side, side)
    low = mapped_zeros((len(rows), _LOW, _LOW), np.float32)
    tiles = mapped_zeros((len(rows), tiles_per_side, tiles_per_side), np.float32)
    for start in range(0, len(rows), block_size):
        images = thumbnails[rows[start : start + block_size]].astype(np.float32)
        images -= images.mean(axis=(1, 2), keepdims=True)
        images /= np.sqrt(np.einsum("ijk,ijk->i", images, images))[:, None, None]
        spectrum = basis @ images @ basis.T
        low[start : start + len(images)] = spectrum[:, :_LOW, :_LOW]
        spectrum[:, :_LOW, :_LOW] = 0
        squares = np.square(spectrum).reshape(-1, tiles_per_side, _TILE, tiles_per_side, _TILE)
        tiles[start : start + len(images)] = np.sqrt(squares.sum(axis=(2, 4)))
    return low, tiles


def cosine_basis(frequencies: int, side: int) -> Floats:
    """The first rows (frequencies, side) of the orthonormal discrete cosine transform."""
    k, x = np.arange(frequencies)[:, None], np.arange(side)[None] + 0.5
    basis = np.cos(np.pi * k * x / side) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    return basis.astype(np.float32)


def _components(low: Floats, tiles: Floats, block_size: int) -> Floats:
    """(N, D) coordinates that are the same for all variants of an image, and whose distances are at most those of the images."""

    def folded(rows: slice) -> Floats:
        return np.concatenate([_fold(np.abs(low[rows])), _fold(tiles[rows])], axis=1)

    sample = folded(slice(None, None, max(len(low) // _COMPONENTS_FROM, 1)))
    centre = sample.mean(axis=0)
    directions = principal_directions(sample - centre, _DIMENSIONS)
    points = np.empty((len(low), directions.shape[1]), dtype=np.float32)
    for start in range(0, len(low), block_size):
        block = slice(start, start + block_size)
        points[block] = (folded(block) - centre) @ directions
    return points


def principal_directions(centred: Floats, count: int) -> Floats:
    """Orthonormal columns (D, count) in which points (N, D) vary most."""
    _, directions = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))
    return np.ascontiguousarray(directions[:, ::-1][:, :count], dtype=np.float32)


def _fold(squares: Floats) -> Floats:
    """(N, S, S) → (N, S * S): the smaller of each two values that a transposition swaps, the larger ones, and the diagonal."""
    upper = np.triu_indices(squares.shape[1], 1)
    one, other = squares[:, upper[0], upper[1]], squares[:, upper[1], upper[0]]
    diagonal = squares[:, np.arange(squares.shape[1]), np.arange(squares.shape[1])]
    return np.concatenate([np.minimum(one, other), np.maximum(one, other), diagonal], axis=1)


def _proposed(points: Floats) -> Iterator[IntArray]:
    """Pairs (P, 2) of near points, a < b."""
    cells = Cells.of(points)
    radius = cells.radius_of(_PROPOSED, _DISTANCE)
    for pairs in cells.near(radius, _PROPOSED):
        yield np.sort(pairs, axis=1)


def _possible_turns(low: Floats, tiles: Floats, pairs: IntArray) -> BoolArray:
    """(P, 8) whether the coefficients of a pair, one of them turned, allow a correlation above the limit."""
    a, b = low[pairs[:, 0]], low[pairs[:, 1]]
    of_a, of_b = tiles[pairs[:, 0]], tiles[pairs[:, 1]]
    lengths = np.einsum("ijk,ijk->i", a, a) + np.einsum("ijk,ijk->i", b, b)
    distance = np.empty((len(pairs), len(TURNS)), dtype=np.float32)
    for transposed in (False, True):
        if transposed:
            b, of_b = b.transpose(0, 2, 1), of_b.transpose(0, 2, 1)
        product = a * b
        # Mirroring changes the sign of coefficients of odd frequency along that axis.
        parts = {(y, x): product[:, y::2, x::2].sum(axis=(1, 2)) for y in (0, 1) for x in (0, 1)}
        rest = np.square(of_a - of_b).sum(axis=(1, 2))
        for number, turn in enumerate(TURNS):
            if turn.transposed == transposed:
                y, x = (-1 if turn.upside_down else 1), (-1 if turn.mirrored else 1)
                dot = parts[0, 0] + x * parts[0, 1] + y * parts[1, 0] + y * x * parts[1, 1]
                distance[:, number] = lengths - 2 * np.abs(dot) + rest
    return np.asarray(distance <= _DISTANCE**2)


def _confirmed(
    thumbnails: NDArray[np.uint8], rows: IntArray, pairs: IntArray, possible: BoolArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs, turns and detail correlations of those whose thumbnails correlate above `CORRELATION`."""
    best = np.full(len(pairs), -np.inf)
    chosen = np.zeros(len(pairs), dtype=np.int64)
    for number, turn in enumerate(TURNS):
        at = np.flatnonzero(possible[:, number])
        if len(at) == 0:
            continue
        left, right = thumbnails[rows[pairs[at, 0]]], turn.apply(thumbnails[rows[pairs[at, 1]]])
        whole = correlations(left, right)
        passed = np.abs(whole) > CORRELATION
        detail = correlations(fine(left[passed]), fine(right[passed])) * np.sign(whole[passed])
        at = at[passed]
        better = detail > best[at] + _ROUNDING
        best[at[better]], chosen[at[better]] = detail[better], number
    found = np.isfinite(best)
    return pairs[found], chosen[found], best[found]


def fine(images: NDArray[np.generic], smooth: float = _SMOOTH) -> Floats:
    """The detail of images (P, ...): the difference from their blur."""
    import cv2

    detail = np.empty(images.shape, dtype=np.float32)
    for row, image in enumerate(images):
        grey = np.ascontiguousarray(image, dtype=np.float32)
        detail[row] = grey - cv2.GaussianBlur(grey, (0, 0), smooth)
    return detail


def correlations(left: NDArray[np.generic], right: NDArray[np.generic]) -> FloatArray:
    """Pearson correlations (P,) of P pairs of images; 0 where one is blank."""
    a, b = (side.reshape(len(side), math.prod(side.shape[1:])).astype(np.float32) for side in (left, right))
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.where(length > 0, length, 1), dtype=np.float64)
