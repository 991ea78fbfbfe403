"""Description of a synthetic cell, and its drawing as dye on a canvas.

A `BloodCell` has the features that a haematologist examines: size, shape of the nucleus, chromatin, colour of the
cytoplasm, granules. `draw_cell` draws cells of all classes.

Shape legend: S canvas side in pixels, L lobes of a nucleus. Lengths are in micrometres unless stated otherwise; amounts
of dye are those of `tametail.data.demo.smear`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray
from tametail.data.demo.smear import (
    BLUE,
    EOSIN,
    ORANGE,
    PURPLE,
    SHIFT,
    Array,
    Slide,
    blob,
    blurred,
    discs,
    texture,
    waves,
)

Random = np.random.Generator


@dataclass(frozen=True)
class Granules:
    """``count`` grains of about ``radius``, each with the amounts ``dye`` (eosin, purple, blue, orange)."""

    count: int
    radius: float
    dye: tuple[float, float, float, float]
    over_nucleus: bool = False


@dataclass(frozen=True)
class BloodCell:
    """One cell.

    Attributes:
        radius, wobble: size, and relative unevenness of the outline.
        lobes: (L, 3) x, y and radius of the discs of the nucleus, connected in order by strands.
        strand: width of the strands between the lobes.
        chromatin, clumps, grain: amount of dye in the nucleus, and its relative coarse and fine unevenness.
        cytoplasm: amounts of (eosin, purple, blue); ``rim`` is more blue towards the outline.
        mottle: relative unevenness of the cytoplasm.
        granules: kinds of grains.
        nucleoli, vacuoles: their numbers.
    """

    radius: float
    lobes: FloatArray
    chromatin: float
    clumps: float
    grain: float
    cytoplasm: tuple[float, float, float]
    wobble: float = 0.03
    strand: float = 0.5
    rim: float = 0.0
    mottle: float = 0.12
    granules: tuple[Granules, ...] = ()
    nucleoli: int = 0
    vacuoles: int = 0


def draw_cell(
    canvas: Array, cell: BloodCell, slide: Slide, rng: Random, centre: FloatArray, show_through: float
) -> None:
    """Draw ``cell`` onto ``canvas`` (4, S, S) of dyes, with its centre at ``centre`` (x, y in pixels).

    ``show_through`` in [0, 1] is the fraction that remains of the dye already there.
    """
    body = blurred(blob(centre, cell.radius * slide.scale, waves(rng, cell.wobble)), 1.0)
    nucleus = _nucleus(cell, slide.scale, rng, centre) * body
    canvas *= 1 - (1 - show_through) * body
    _add_cytoplasm(canvas, cell, body, nucleus, slide.scale, rng)
    canvas[PURPLE] += cell.chromatin * _chromatin(cell, nucleus, slide.scale, rng)
    if cell.nucleoli:
        spots = _scatter(rng, cell.nucleoli, 0.95, nucleus > 0.9, slide.scale)
        spots = blurred(spots, 1.4) * nucleus
        canvas[PURPLE] *= 1 - 0.65 * spots
        canvas[BLUE] += 0.3 * spots
    for grains in cell.granules:
        _add_granules(canvas, grains, body, nucleus, slide.scale, rng)


def _add_cytoplasm(
    canvas: Array, cell: BloodCell, body: Array, nucleus: Array, scale: float, rng: Random
) -> None:
    # 0 at the outline, 1 inside
    inside = np.clip(blurred(body, 0.22 * cell.radius * scale) * 1.5 - 0.5, 0, 1)
    mottled = body * (1 + cell.mottle * texture(rng, 1.2 * scale)) * (0.75 + 0.25 * inside)
    mottled *= 1 - 0.85 * nucleus
    eosin, purple, blue = cell.cytoplasm
    canvas[EOSIN] += eosin * mottled
    canvas[PURPLE] += purple * mottled
    canvas[BLUE] += (blue + cell.rim * (1 - inside)) * mottled
    if cell.vacuoles:
        holes = _scatter(rng, cell.vacuoles, 0.55, body * (1 - nucleus) > 0.6, scale)
        canvas *= 1 - 0.75 * blurred(holes, 1.2) * (1 - nucleus)


def _add_granules(
    canvas: Array, grains: Granules, body: Array, nucleus: Array, scale: float, rng: Random
) -> None:
    free = body if grains.over_nucleus else body * (1 - nucleus)
    spots = blurred(_scatter(rng, grains.count, grains.radius, free > 0.6, scale), 0.9)
    spots *= body if grains.over_nucleus else body * (1 - 0.85 * nucleus)
    for dye, amount in zip((EOSIN, PURPLE, BLUE, ORANGE), grains.dye, strict=True):
        if amount:
            canvas[dye] += amount * spots


def _nucleus(cell: BloodCell, scale: float, rng: Random, centre: FloatArray) -> Array:
    """(S, S) mask of the nucleus: merged discs with an uneven outline, and strands between them."""
    import cv2

    lobes = cell.lobes * scale
    mask = discs(lobes[:, :2] + centre, lobes[:, 2], np.ones(len(lobes)))
    softness = 0.45 * scale
    field = blurred(mask, softness) + 0.09 * texture(rng, 1.6 * scale) * blurred(mask, 2 * softness)
    body = np.clip((field - 0.5) * softness + 0.5, 0, 1)
    strands = np.zeros(body.shape, np.uint8)
    path = np.rint((lobes[:, :2] + centre) * (1 << SHIFT)).astype(np.int32)
    cv2.polylines(strands, [path], False, 255, max(1, round(cell.strand * scale)), cv2.LINE_AA, SHIFT)
    return np.maximum(body, blurred(strands.astype(np.float32) / np.float32(255), 1.0))


def _chromatin(cell: BloodCell, nucleus: Array, scale: float, rng: Random) -> Array:
    """(S, S) relative amount of chromatin: coarse clumps, fine grain, less at thin parts of the nucleus."""
    depth = blurred(nucleus, 0.8 * scale)
    uneven = 1 + cell.clumps * texture(rng, 1.1 * scale) + cell.grain * texture(rng, 0.5 * scale)
    return np.asarray(nucleus * np.clip(uneven, 0.35, None) * (0.72 + 0.36 * depth), np.float32)


def _scatter(rng: Random, count: int, radius: float, room: BoolArray, scale: float) -> Array:
    """(S, S) ``count`` discs of random size and value, with centres where ``room`` is true."""
    rows, columns = np.nonzero(room)
    if not len(rows):
        return np.zeros(room.shape, np.float32)
    chosen = rng.integers(0, len(rows), count)
    middles = np.column_stack([columns[chosen], rows[chosen]]) + rng.uniform(-0.5, 0.5, (count, 2))
    radii = np.clip(radius * scale * rng.normal(1, 0.18, count), 0.5, None)
    return discs(middles, radii, rng.uniform(0.55, 1, count))
