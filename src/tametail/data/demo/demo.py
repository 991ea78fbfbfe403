"""The built-in demo set: synthetic images of stained blood cells, generated from a seed.

Seven classes with an imbalance ratio of 40, patients with different stain, light and magnification, and cells that
resemble another class, so that no classifier is perfect. No result on this set says anything about real blood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.data.demo.cells import CELL_KINDS, draw_cell
from tametail.data.demo.generated import random_stream, write_generated
from tametail.data.demo.smear import CANVAS_SIDE, add_red_cells, empty_canvas, expose, prepare_slide

DEMO_VERSION = 2  # increase it whenever the images or the roster change: the cache folder is named after it
DEMO_CLASSES = tuple(sorted(CELL_KINDS))

DEMO_CELLS = {
    "neutrophil": 640,
    "lymphocyte": 346,
    "monocyte": 187,
    "eosinophil": 101,
    "erythroblast": 55,
    "basophil": 30,
    "blast": 16,
}
DEMO_PATIENTS = 48
# Rare cells are from few patients, as in reality, but enough for a test set and five folds.
_CARRIERS = {"erythroblast": 32, "basophil": 20, "blast": 13}
_ROSTER, _SLIDE, _IMAGE = range(3)  # independent random streams of one seed


@dataclass(frozen=True)
class DemoImage:
    """One image: its number in the set, its class and its patient."""

    number: int
    label: str
    patient: int

    @property
    def image(self) -> str:
        return f"images/cell_{self.number:04d}.png"

    @property
    def group(self) -> str:
        return f"patient_{self.patient:02d}"


def demo_directory(cache: Path, seed: int = 0) -> Path:
    """Folder in ``cache`` of the demo set of this version and ``seed``."""
    return cache / f"demo-v{DEMO_VERSION}-seed{seed}"


def write_demo(
    directory: Path,
    *,
    seed: int = 0,
    cells: Mapping[str, int] = DEMO_CELLS,
    patients: int = DEMO_PATIENTS,
) -> None:
    """Write the synthetic demo set of ``seed`` into ``directory``, unless it exists and is complete.

    It has ``images/*.png`` (96×96 RGB), ``labels.csv`` (image, label, group) and ``README.txt``. The same seed gives the
    same images.

    Args:
        directory: folder to write.
        seed: seed of the images and of the patients they are from.
        cells: number of images of each class.
        patients: number of patients, at most as many as each class has images.

    Raises:
        DataError: ``directory`` has other contents.
        TametailError: the folder cannot be written.
    """
    roster = list_images(seed, cells=cells, patients=patients)
    write_generated(
        directory,
        {"labels.csv": _labels(roster), "README.txt": _readme(seed)},
        {entry.image: partial(draw_image, entry, seed) for entry in roster},
        f"the demo set of version {DEMO_VERSION} and seed {seed}",
    )


def list_images(
    seed: int, *, cells: Mapping[str, int] = DEMO_CELLS, patients: int = DEMO_PATIENTS
) -> list[DemoImage]:
    """The cells with their patients, in an order that does not reveal the class."""
    rng = random_stream(seed, _ROSTER)
    labels: list[str] = []
    numbers: list[int] = []
    for label, count in cells.items():
        carriers = rng.permutation(patients)[: _CARRIERS.get(label, patients)]
        share = rng.gamma(3.0, size=len(carriers))
        extra = rng.multinomial(count - len(carriers), share / share.sum())
        labels += [label] * count
        numbers += np.repeat(carriers, 1 + extra).tolist()
    order = rng.permutation(len(labels))
    return [DemoImage(number, labels[i], numbers[i] + 1) for number, i in enumerate(order, start=1)]


def draw_image(entry: DemoImage, seed: int) -> NDArray[np.uint8]:
    """(96, 96, 3) uint8 RGB, determined by the seed and the entry alone."""
    slide = prepare_slide(random_stream(seed, _SLIDE, entry.patient))
    rng = random_stream(seed, _IMAGE, entry.number)
    cell = CELL_KINDS[entry.label](rng)
    centre = CANVAS_SIDE / 2 + rng.normal(0, 1.2 * slide.scale, 2).clip(-20, 20)
    overlapped = rng.random() < 0.12
    clearance = cell.radius * slide.scale * (0.55 if overlapped else 1.0)
    canvas = empty_canvas(slide)
    add_red_cells(canvas, slide, rng, centre, clearance)
    draw_cell(canvas, cell, slide, rng, centre, show_through=0.8 if overlapped else 0.0)
    defocus = rng.uniform(2.5, 5.5) if rng.random() < 0.08 else rng.uniform(0, 1.2)
    return expose(canvas, slide, rng, defocus)


def _labels(roster: list[DemoImage]) -> str:
    return "image,label,group\n" + "".join(f"{entry.image},{entry.label},{entry.group}\n" for entry in roster)


def _readme(seed: int) -> str:
    return (
        f"tametail demo set, version {DEMO_VERSION}, seed {seed}\n\n"
        "SYNTHETIC. Every image here was drawn by a program (tametail.data.demo). None is a photograph\n"
        "of blood, no patient exists, and no result obtained on these images says anything\n"
        "about real cells.\n\n"
        "images/     stained blood cells in the manner of a May-Grünwald-Giemsa smear, 96×96 pixels\n"
        "labels.csv  image, label (the cell), group (the imaginary patient)\n"
    )
