"""Synthetic cells: a description of each class (six white cells and one nucleated red cell), and its drawing as dye.

Each class generates a random `BloodCell`, sometimes one that resembles another class, after the textbook morphology of
May-Grünwald-Giemsa smears. `draw_cell` draws cells of all classes.

Shape legend: S canvas side in pixels, L lobes of a nucleus. Lengths are in micrometres unless stated otherwise; amounts
of dye are those of `tametail.data.demo.smear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

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


def _chain(rng: Random, radii: FloatArray, gap: float, turn: float, zigzag: float = 0.0) -> FloatArray:
    """(L, 3) discs along a path that turns by about ``turn`` radians per step, centred on the cell."""
    heading, side = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
    place = np.zeros(2)
    places = [place]
    for _ in radii[1:]:
        place = place + gap * rng.normal(1, 0.08) * np.array([np.cos(heading), np.sin(heading)])
        places.append(place)
        side = -side if rng.random() < zigzag else side
        heading += side * turn * rng.normal(1, 0.2)
    path = np.array(places)
    return np.column_stack([path - path.mean(axis=0), radii])


def _round(rng: Random, radius: float, room: float) -> FloatArray:
    """(3, 3) discs of a round or slightly oval nucleus, off centre by up to ``room``."""
    lobes = _chain(rng, radius * rng.normal(0.94, 0.02, 3), radius * rng.uniform(0.03, 0.16), 0.3)
    angle = rng.uniform(0, 2 * np.pi)
    lobes[:, :2] += room * rng.uniform(0.1, 0.9) * np.array([np.cos(angle), np.sin(angle)])
    return lobes


def _neutrophil(rng: Random) -> BloodCell:
    count = int(rng.choice([2, 3, 4, 5], p=[0.06, 0.42, 0.37, 0.15]))
    size = 3.9 / np.sqrt(count + 0.6)
    lobes = _chain(rng, size * rng.normal(1, 0.1, count), 1.9 * size, rng.uniform(0.9, 1.35), zigzag=0.2)
    fine = Granules(int(rng.uniform(120, 300)), 0.24, (0.10, 0.10, 0.0, 0.02))
    cell = BloodCell(
        rng.normal(6.2, 0.45), lobes, rng.normal(1.05, 0.08), 0.24, 0.10,
        (rng.uniform(0.12, 0.26), 0.02, rng.uniform(0.0, 0.06)), granules=(fine,),
    )  # fmt: skip
    kind = rng.random()
    if kind < 0.10:  # band form: a bent rod, like a small monocyte
        lobes = _chain(rng, rng.normal(1.75, 0.06, 7), 1.05, rng.uniform(0.3, 0.55))
        return replace(cell, lobes=lobes, chromatin=0.95)
    if kind < 0.17:  # toxic granulation: coarse granules, like an eosinophil or basophil
        coarse = Granules(
            int(rng.uniform(50, 130)), 0.36, (0.15, rng.uniform(0.15, 0.4), 0.0, rng.uniform(0, 0.25))
        )
        return replace(cell, granules=(coarse,), vacuoles=int(rng.poisson(1)))
    return cell


def _lymphocyte(rng: Random) -> BloodCell:
    radius = rng.normal(4.7, 0.4)
    nucleus = radius * rng.uniform(0.80, 0.90)
    cell = BloodCell(
        radius, _round(rng, nucleus, radius - nucleus), rng.normal(1.15, 0.1), 0.22, 0.08,
        (0.03, 0.03, rng.uniform(0.35, 0.65)), rim=0.25,
    )  # fmt: skip
    kind = rng.random()
    if kind < 0.22:  # reactive: large, skirted, like a monocyte
        radius = rng.normal(7.0, 0.7)
        size = radius * rng.uniform(0.48, 0.6)
        lobes = _chain(rng, size * rng.normal(0.85, 0.05, 3), 0.4 * size, rng.uniform(0.2, 0.9))
        lobes[:, :2] += rng.normal(0, 0.08 * radius, 2)
        return replace(
            cell, radius=radius, lobes=lobes, wobble=0.07, chromatin=rng.normal(0.92, 0.08), clumps=0.18,
            cytoplasm=(0.04, 0.05, rng.uniform(0.25, 0.5)), rim=rng.uniform(0.2, 0.6),
            vacuoles=int(rng.poisson(0.5)),
        )  # fmt: skip
    if kind < 0.30:  # prolymphocyte: large with a nucleolus, like a blast
        radius = rng.normal(6.0, 0.5)
        lobes = _round(rng, radius * 0.8, radius * 0.15)
        return replace(cell, radius=radius, lobes=lobes, chromatin=0.9, clumps=0.14, nucleoli=1)
    if kind < 0.38:  # large granular lymphocyte
        radius = rng.normal(6.0, 0.5)
        azurophil = Granules(int(rng.uniform(8, 20)), 0.33, (0.1, 0.5, 0.0, 0.0))
        lobes = _round(rng, radius * 0.62, radius * 0.2)
        return replace(cell, radius=radius, lobes=lobes, cytoplasm=(0.03, 0.03, 0.3), granules=(azurophil,))
    return cell


def _monocyte(rng: Random) -> BloodCell:
    radius = rng.normal(7.9, 0.7)
    size = radius * rng.uniform(0.28, 0.36)
    lobes = _chain(rng, size * rng.normal(1, 0.06, 6), 0.56 * size, rng.uniform(0.38, 0.62))
    dust = Granules(int(rng.uniform(40, 160)), 0.22, (0.08, 0.13, 0.0, 0.0))
    cell = BloodCell(
        radius, lobes, rng.normal(0.82, 0.07), 0.15, 0.13,
        (0.08, rng.uniform(0.05, 0.1), rng.uniform(0.24, 0.44)), wobble=0.06, mottle=0.22, granules=(dust,),
        vacuoles=int(rng.poisson(2.5)),
    )  # fmt: skip
    kind = rng.random()
    if kind < 0.16:  # rounded nucleus, like a blast or a reactive lymphocyte
        return replace(cell, lobes=_round(rng, radius * rng.uniform(0.58, 0.68), radius * 0.2), vacuoles=0)
    if kind < 0.26:  # folded into lobes, like a band form
        lobes = _chain(rng, 0.33 * radius * rng.normal(1, 0.1, 3), 0.42 * radius, rng.uniform(0.9, 1.3))
        return replace(cell, lobes=lobes, radius=radius * 0.88, strand=1.8, chromatin=0.95)
    return cell


def _eosinophil(rng: Random) -> BloodCell:
    count = int(rng.choice([2, 3], p=[0.85, 0.15]))
    size = rng.normal(2.45, 0.15) * (1 if count == 2 else 0.82)
    lobes = _chain(rng, size * rng.normal(1, 0.06, count), 1.75 * size, 1.1)
    lobes[:, :2] += rng.normal(0, 0.7, 2)
    coarse = Granules(int(rng.uniform(170, 270)), 0.45, (0.22, 0.02, 0.0, rng.uniform(0.5, 0.75)))
    cell = BloodCell(
        rng.normal(6.6, 0.4), lobes, rng.normal(0.95, 0.08), 0.2, 0.1, (0.22, 0.02, 0.03), granules=(coarse,)
    )
    if rng.random() < 0.22:  # degranulated: few granules, like a neutrophil
        left = replace(coarse, count=int(rng.uniform(8, 50)), dye=(0.2, 0.02, 0.0, rng.uniform(0.2, 0.5)))
        return replace(cell, granules=(left,), vacuoles=int(rng.poisson(3)))
    return cell


def _basophil(rng: Random) -> BloodCell:
    count = int(rng.choice([2, 3]))
    size = 3.6 / np.sqrt(count)
    lobes = _chain(rng, size * rng.normal(1, 0.1, count), 1.35 * size, 1.2)
    dark = Granules(
        int(rng.uniform(50, 110)), 0.43, (0.0, rng.uniform(0.7, 1.1), 0.35, 0.0), over_nucleus=True
    )
    cell = BloodCell(
        rng.normal(5.8, 0.4), lobes, rng.normal(0.9, 0.08), 0.16, 0.1, (0.1, 0.16, 0.08), strand=1.4, granules=(dark,)
    )  # fmt: skip
    if rng.random() < 0.28:  # degranulated: granules washed out, like a neutrophil
        left = replace(dark, count=int(rng.uniform(6, 24)), dye=(0.05, rng.uniform(0.3, 0.8), 0.1, 0.0))
        return replace(cell, granules=(left,), chromatin=0.9, vacuoles=int(rng.poisson(3)))
    return cell


def _blast(rng: Random) -> BloodCell:
    radius = rng.normal(7.3, 0.7)
    nucleus = radius * rng.uniform(0.76, 0.86)
    cell = BloodCell(
        radius, _round(rng, nucleus, 0.8 * (radius - nucleus)), rng.normal(0.62, 0.05), 0.06, 0.09,
        (0.03, 0.05, rng.uniform(0.5, 0.85)), wobble=0.04, rim=0.3, nucleoli=int(rng.integers(1, 4)),
    )  # fmt: skip
    kind = rng.random()
    if kind < 0.18:  # small, nucleoli hidden, like a lymphocyte
        radius = rng.normal(5.4, 0.3)
        lobes = _round(rng, radius * 0.87, radius * 0.08)
        return replace(cell, radius=radius, lobes=lobes, chromatin=0.85, nucleoli=int(rng.integers(0, 2)))
    if kind < 0.36:  # monoblast: folded nucleus and more cytoplasm, like a monocyte
        lobes = _chain(rng, 0.5 * radius * rng.normal(1, 0.05, 3), 0.3 * radius, 0.8)
        return replace(cell, lobes=lobes, cytoplasm=(0.05, 0.06, 0.45), nucleoli=int(rng.integers(0, 3)))
    return cell


def _erythroblast(rng: Random) -> BloodCell:
    ripeness = rng.beta(1.6, 1.3)  # from basophilic (0: blue, like a lymphocyte) to orthochromatic (1: pink)
    radius = 5.4 - 0.8 * ripeness + rng.normal(0, 0.25)
    nucleus = radius * (0.72 - 0.2 * ripeness) * rng.normal(1, 0.04)
    return BloodCell(
        radius, _round(rng, nucleus, 0.8 * (radius - nucleus)), 1.3 + 0.5 * ripeness,
        0.26 - 0.18 * ripeness, 0.06, (0.25 + 0.6 * ripeness, 0.04, 0.6 - 0.42 * ripeness), mottle=0.06,
    )  # fmt: skip


CELL_KINDS: Mapping[str, Callable[[Random], BloodCell]] = {
    "neutrophil": _neutrophil,
    "lymphocyte": _lymphocyte,
    "monocyte": _monocyte,
    "eosinophil": _eosinophil,
    "erythroblast": _erythroblast,
    "basophil": _basophil,
    "blast": _blast,
}
