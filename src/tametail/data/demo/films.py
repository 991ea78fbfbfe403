"""The built-in demo set with several labels per image: synthetic grey films, generated from a seed.

Thirty findings of which the rarest are on few patients, one to three films of each patient, findings that occur together,
faint ones, some that a view does not show, and a fifth of the labels unknown. No result on this set says anything about
real X-rays.

Shape legend: P patients, C findings, S canvas side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray
from tametail.data.demo.generated import random_stream, write_generated

FILMS_VERSION = 1  # increase it whenever the images or the roster change: the cache folder is named after it
SIZES = {"small": 3.0, "medium": 5.5, "large": 9.0}  # radius in pixels
TONES = {"bright": 1.0, "dark": -1.0}
SHAPES = ("disc", "dots", "haze", "ring", "streak")
FINDINGS = tuple(sorted(f"{size} {tone} {shape}" for size in SIZES for tone in TONES for shape in SHAPES))
PATIENTS, SIDE, UNKNOWN_SHARE = 700, 96, 0.2
_MOST, _FEWEST = 0.3, 0.02  # prevalence of the most frequent and of the rarest finding
_FACTORS, _SHARED = (
    5,
    0.55,
)  # independent causes of findings, and the share of a finding's variance that its cause explains
_SHOWN = 0.85  # probability that a film shows a finding of its patient
_PATIENTS, _UNKNOWN, _FILM = range(3)  # independent random streams of one seed


@dataclass(frozen=True)
class Film:
    """One film.

    Attributes:
        number: in the set.
        patient: its number.
        findings: names of those that the patient has.
        unknown: names of those that are not known; the patient may have them or not.
    """

    number: int
    patient: int
    findings: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def image(self) -> str:
        return f"images/film_{self.number:04d}.png"

    @property
    def group(self) -> str:
        return f"patient_{self.patient:03d}"


def films_directory(cache: Path, seed: int = 0) -> Path:
    """Folder in ``cache`` of the set of this version and ``seed``."""
    return cache / f"demo-multilabel-v{FILMS_VERSION}-seed{seed}"


def write_films(directory: Path, *, seed: int = 0, patients: int = PATIENTS) -> None:
    """Write the films of ``seed`` into ``directory``, unless it exists and is complete.

    It has ``images/*.png`` (96×96 grey), ``labels.csv`` (image, patient, and a column per finding of 1, 0 or, where unknown,
    nothing) and ``README.txt``. The same seed gives the same images.

    Raises:
        DataError: ``directory`` has other contents.
        TametailError: the folder cannot be written.
    """
    films = list_films(seed, patients=patients)
    write_generated(
        directory,
        {"labels.csv": _labels(films), "README.txt": _readme(seed)},
        {film.image: partial(draw_film, film, seed) for film in films},
        f"the multi-label demo set of version {FILMS_VERSION} and seed {seed}",
    )


def list_films(seed: int, *, patients: int = PATIENTS) -> list[Film]:
    """The films with the findings of their patients, also of those that are marked as unknown."""
    rng = random_stream(seed, _PATIENTS)
    has = _findings(rng, patients)
    unknown = random_stream(seed, _UNKNOWN).random(has.shape) < UNKNOWN_SHARE
    films: list[Film] = []
    for patient, views in enumerate(1 + rng.binomial(2, 0.3, patients)):
        named = [tuple(np.array(FINDINGS)[row].tolist()) for row in (has[patient], unknown[patient])]
        films += [Film(len(films) + view + 1, patient + 1, *named) for view in range(views)]
    return films


def _findings(rng: np.random.Generator, patients: int) -> BoolArray:
    """(P, C) findings with a long tail of prevalences; those of one cause occur together."""
    from scipy import special

    rank = rng.permutation(len(FINDINGS)) / (len(FINDINGS) - 1)
    prevalence = _MOST * (_FEWEST / _MOST) ** rank
    cause = rng.integers(0, _FACTORS, len(FINDINGS))
    causes, own = rng.standard_normal((patients, _FACTORS)), rng.standard_normal((patients, len(FINDINGS)))
    strength = np.sqrt(_SHARED) * causes[:, cause] + np.sqrt(1 - _SHARED) * own
    found: BoolArray = strength > special.ndtri(1 - prevalence)
    return found


def draw_film(film: Film, seed: int) -> NDArray[np.uint8]:
    """(96, 96) uint8 grey values, determined by the seed and the film alone."""
    import cv2

    rng = random_stream(seed, _FILM, film.number)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE - 0.5
    canvas = np.full((SIDE, SIDE), rng.normal(0.62, 0.03), np.float32)
    for side in (-1, 1):
        lung = np.hypot((x - side * rng.normal(0.22, 0.01)) / 0.17, (y - rng.normal(0, 0.02)) / 0.36)
        canvas -= np.float32(rng.normal(0.28, 0.03)) / (1 + np.exp((lung - 1) * 9))
    ribs = np.sin((y + 0.25 * np.abs(x)) * rng.uniform(38, 46) + rng.uniform(0, 6))
    canvas += np.float32(0.02) * ribs.astype(np.float32)
    for name in film.findings:
        if rng.random() < _SHOWN:
            canvas += _mark(rng, *name.split(" "))
    blurred = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.5, 0.9)))
    noisy = blurred * rng.normal(1, 0.05) + rng.standard_normal(canvas.shape, dtype=np.float32) * 0.015
    return np.asarray(np.clip(np.rint(noisy * 255), 0, 255), np.uint8)


def _mark(rng: np.random.Generator, size: str, tone: str, shape: str) -> NDArray[np.float32]:
    """(S, S) change of the grey values by one finding, at a random place in one of the lungs; sometimes a faint one."""
    import cv2

    radius = SIZES[size] * float(np.exp(rng.normal(0, 0.08)))
    strength = TONES[tone] * rng.uniform(0.10, 0.26)
    across, down = rng.choice([-1, 1]) * rng.normal(0.22, 0.05), rng.uniform(-0.27, 0.27)
    centre = np.array([across, down]) * SIDE + SIDE / 2
    plate = np.zeros((SIDE, SIDE), np.uint8)

    def circle(place: NDArray[np.float64], of_radius: float, thickness: int = cv2.FILLED) -> None:
        fixed = [round(float(value) * 16) for value in (*place, of_radius)]
        cv2.circle(plate, (fixed[0], fixed[1]), max(fixed[2], 8), 255, thickness, cv2.LINE_AA, 4)

    if shape in ("disc", "haze"):
        circle(centre, radius)
    elif shape == "ring":
        circle(centre, radius, 2)
    elif shape == "dots":
        for _ in range(7):
            circle(centre + rng.uniform(-1, 1, 2) * radius * 1.3, radius / 4)
    else:
        turned = rng.uniform(0, np.pi)
        end = np.array([np.cos(turned), np.sin(turned)]) * radius * 1.8
        first, last = (np.rint((centre + sign * end) * 16).astype(int).tolist() for sign in (-1, 1))
        cv2.line(plate, first, last, 255, max(1, round(radius / 4)), cv2.LINE_AA, 4)
    mark = plate.astype(np.float32) / 255
    if shape == "haze":
        mark = np.asarray(cv2.GaussianBlur(mark, (0, 0), radius / 1.5), np.float32)
    return np.asarray(strength * mark, np.float32)


def _labels(films: list[Film]) -> str:
    lines = [",".join(["image", "patient", *FINDINGS])]
    for film in films:
        cells = ["" if name in film.unknown else str(int(name in film.findings)) for name in FINDINGS]
        lines.append(",".join([film.image, film.group, *cells]))
    return "\n".join(lines) + "\n"


def _readme(seed: int) -> str:
    return (
        f"tametail multi-label demo set, version {FILMS_VERSION}, seed {seed}\n\n"
        "SYNTHETIC. Every image here was drawn by a program (tametail.data.demo). None is an X-ray,\n"
        "no patient exists, and no result obtained on these images says anything about real films.\n\n"
        "images/     grey films with marks, 96×96 pixels\n"
        "labels.csv  image, patient, and a column per finding: 1, 0, or empty where it is unknown\n"
    )
