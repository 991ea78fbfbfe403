"""The slide of the synthetic cells: dyes, light, red cells and the camera of the microscope.

Objects add dye to a canvas, dye absorbs light by the Beer-Lambert law, and the camera blurs, samples and adds noise.

Shape legend: S canvas side in pixels, 4 dyes. Lengths are in micrometres unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray

Array = NDArray[np.float32]

IMAGE_SIDE = 96
OVERSAMPLING = 2
CANVAS_SIDE = IMAGE_SIDE * OVERSAMPLING
EOSIN, PURPLE, BLUE, ORANGE = range(4)

# Optical density in red, green and blue of one unit of dye: eosin of red cells, azure-eosin complex of nuclei, azure of
# cytoplasm rich in RNA, and eosinophil granules.
_DYES = np.array([[0.08, 0.36, 0.29], [0.76, 1.46, 0.46], [0.54, 0.42, 0.12], [0.10, 0.72, 0.98]])
SHIFT = 4  # fractional bits of OpenCV's sub-pixel coordinates
_ANGLE = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)


@dataclass(frozen=True)
class Slide:
    """Properties of all images of one patient.

    Attributes:
        dyes: (4, 3) optical density per unit of each dye in red, green and blue.
        light: (3,) what the camera records of empty glass, in [0, 1].
        shading: (2,) slope of the illumination across the image.
        scale: canvas pixels per micrometre.
        blur: standard deviation of the optics' blur, in canvas pixels.
        noise: standard deviation of the camera's noise, in grey levels.
        crowding: mean number of red cells per image before overlaps are removed.
        red_radius, pallor: size of the red cells, and how much thinner their centre is, in [0, 1].
        plasma: dye on the empty glass, as (eosin, blue).
    """

    dyes: Array
    light: Array
    shading: Array
    scale: float
    blur: float
    noise: float
    crowding: float
    red_radius: float
    pallor: float
    plasma: tuple[float, float]


def prepare_slide(rng: np.random.Generator) -> Slide:
    """Random stain, light, magnification and red cells of one patient."""
    acidity = rng.normal(0, 0.16)  # an acid buffer makes the stain red, an alkaline one blue
    strength = np.exp(np.array([acidity, -0.3 * acidity, -acidity, 0.7 * acidity]) + rng.normal(0, 0.11, 4))
    hue = np.exp(rng.normal(0, 0.07, (4, 3)))
    return Slide(
        dyes=(_DYES * strength[:, None] * hue).astype(np.float32),
        light=np.clip(rng.normal(0.92, 0.035) + rng.normal(0, 0.018, 3), 0.75, 0.99).astype(np.float32),
        shading=rng.normal(0, 0.03, 2).astype(np.float32),
        scale=3.5 * OVERSAMPLING * float(np.exp(rng.normal(0, 0.08))),
        blur=float(rng.uniform(1.0, 1.7)),
        noise=float(rng.uniform(1.2, 3.5)),
        crowding=float(rng.uniform(5, 22)),
        red_radius=float(rng.normal(3.6, 0.2)),
        pallor=float(rng.uniform(0.35, 0.85)),
        plasma=(float(rng.uniform(0, 0.10)), float(rng.uniform(0, 0.06))),
    )


def empty_canvas(slide: Slide) -> Array:
    """(4, S, S) amounts of dye of the plasma alone."""
    canvas = np.zeros((4, CANVAS_SIDE, CANVAS_SIDE), np.float32)
    canvas[EOSIN], canvas[BLUE] = slide.plasma
    return canvas


def texture(rng: np.random.Generator, grain: float) -> Array:
    """(S, S) smooth noise with zero mean, about unit variance and a scale of ``grain`` canvas pixels."""
    import cv2

    coarse = max(8, round(2 * CANVAS_SIDE / grain))
    noise = cv2.GaussianBlur(rng.standard_normal((coarse, coarse), dtype=np.float32), (5, 5), 1.0)
    return np.asarray(cv2.resize(noise * 3.5, (CANVAS_SIDE, CANVAS_SIDE)), np.float32)


def blurred(image: Array, sigma: float) -> Array:
    """``image`` after a Gaussian blur with a standard deviation of ``sigma`` pixels."""
    import cv2

    if sigma < 5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    height, width = image.shape  # after a wide blur a quarter of the pixels to a side is enough
    small = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (width, height)), np.float32)


def discs(centres: FloatArray, radii: FloatArray, values: FloatArray) -> Array:
    """(S, S) anti-aliased discs, in pixels, with the given values in [0, 1]; later ones cover earlier ones."""
    import cv2

    plate = np.zeros((CANVAS_SIDE, CANVAS_SIDE), np.uint8)
    fixed = np.rint(np.column_stack([centres, radii]) * (1 << SHIFT)).astype(int).tolist()
    for (x, y, radius), grey in zip(fixed, np.rint(values * 255).tolist(), strict=True):
        cv2.circle(plate, (x, y), radius, grey, cv2.FILLED, cv2.LINE_AA, SHIFT)
    return plate.astype(np.float32) / np.float32(255)


def blob(centre: FloatArray, radius: float, bumps: FloatArray, side: int = CANVAS_SIDE) -> Array:
    """(side, side) mask of a rounded outline in pixels.

    ``bumps`` is (K, 2): amplitude relative to the radius, and phase, of 2, 3, ... bumps around the outline.
    """
    import cv2

    order = np.arange(2, 2 + len(bumps))[:, None]
    distance = radius * (1 + (bumps[:, :1] * np.cos(order * _ANGLE + bumps[:, 1:])).sum(axis=0))
    outline = centre + _CIRCLE * distance[:, None]
    plate = np.zeros((side, side), np.uint8)
    cv2.fillPoly(plate, [np.rint(outline * (1 << SHIFT)).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
    return plate.astype(np.float32) / np.float32(255)


def waves(rng: np.random.Generator, wobble: float, count: int = 4) -> FloatArray:
    """(count, 2) amplitudes and phases for `blob`; finer bumps are shallower."""
    amplitude = rng.normal(0, wobble, count) / np.arange(1, count + 1)
    return np.column_stack([amplitude, rng.uniform(0, 2 * np.pi, count)])


def add_red_cells(
    canvas: Array, slide: Slide, rng: np.random.Generator, centre: FloatArray, clearance: float
) -> None:
    """Add red cells with a pale centre, and platelets, all at least ``clearance`` pixels from ``centre``."""
    margin = slide.red_radius * slide.scale
    taken: list[FloatArray] = []
    for _ in range(rng.poisson(slide.crowding)):
        place = rng.uniform(-margin, CANVAS_SIDE + margin, 2)
        radius = margin * rng.normal(1, 0.07)
        apart = rng.uniform(1.2, 2.0) * radius  # cells touch and overlap, but are not stacked
        overlaps = any(np.hypot(*(place - other)) < apart for other in taken)
        if overlaps or np.hypot(*(place - centre)) < clearance + 0.8 * radius:
            continue
        taken.append(place)
        _add(canvas[EOSIN], _red_cell(slide, rng, radius), place)
    for _ in range(rng.poisson(0.8)):
        place = rng.uniform(0, CANVAS_SIDE, 2)
        radius = rng.uniform(0.8, 1.5) * slide.scale
        if np.hypot(*(place - centre)) > clearance + radius:
            _add(canvas[PURPLE], _platelet(rng, radius), place)


def _red_cell(slide: Slide, rng: np.random.Generator, radius: float) -> Array:
    """Square patch of the dye in one red cell, thinner in the middle."""
    half = int(1.3 * radius)
    middle, bumps = np.full(2, float(half)), waves(rng, 0.035)
    disc = blob(middle, radius, bumps, 2 * half)
    dimple = blob(middle + rng.normal(0, 0.05 * radius, 2), radius * rng.uniform(0.42, 0.58), bumps, 2 * half)
    thickness = disc - slide.pallor * blurred(dimple, 0.18 * radius)
    return np.asarray(rng.normal(1.0, 0.06) * thickness, np.float32)


def _platelet(rng: np.random.Generator, radius: float) -> Array:
    """Square patch of the dye in one platelet, small and speckled."""
    half = int(1.6 * radius)
    body = blurred(blob(np.full(2, float(half)), radius, waves(rng, 0.12), 2 * half), 1.5)
    speckle = rng.uniform(-0.4, 1.1, body.shape).astype(np.float32)
    return body * (0.12 + blurred(speckle, 1.2))


def _add(plane: Array, patch: Array, place: FloatArray) -> None:
    """Add a square ``patch`` to ``plane`` around ``place`` (x, y in pixels), clipped at the border."""
    side = len(patch)
    left, top = (np.rint(place).astype(int) - side // 2).tolist()
    x, y = max(left, 0), max(top, 0)
    part = patch[y - top : max(0, CANVAS_SIDE - top), x - left : max(0, CANVAS_SIDE - left)]
    plane[y : y + part.shape[0], x : x + part.shape[1]] += part


def expose(canvas: Array, slide: Slide, rng: np.random.Generator, defocus: float) -> NDArray[np.uint8]:
    """The camera image of ``canvas`` (4, S, S); ``defocus`` (canvas pixels) adds to the blur of the optics.

    Returns:
        (IMAGE_SIDE, IMAGE_SIDE, 3) uint8 RGB.
    """
    import cv2

    density = np.tensordot(np.maximum(canvas, 0), slide.dyes, axes=(0, 0))
    light = cv2.GaussianBlur(cv2.exp(-density), (0, 0), float(np.hypot(slide.blur, defocus)))
    image = cv2.resize(light, (IMAGE_SIDE, IMAGE_SIDE), interpolation=cv2.INTER_AREA)
    axis = np.linspace(-1, 1, IMAGE_SIDE, dtype=np.float32)
    lamp = 1 + slide.shading[0] * axis[:, None] + slide.shading[1] * axis[None, :] + rng.normal(0, 0.015)
    grey = image * lamp[:, :, None] * slide.light * 255
    grey += rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(slide.noise)
    return np.asarray(np.clip(np.rint(grey), 0, 255), np.uint8)
