"""Images of the report: the most confident errors of the best method, and images of the rarest classes.

Predictions are out-of-fold; test images are never shown. An image is identified by its row in table.parquet, as file and
folder names may identify patients. Shape legend: N images, C classes.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray, few_of_each
from tametail.core.errors import DataError
from tametail.core.parquet_file import read_frame
from tametail.predictions.single_label import Predictions, ensemble
from tametail.report.study.results import StudyResults
from tametail.report.study.runs import find_runs
from tametail.report.study.thumbnails import thumbnails

IMAGES_MISSING = (
    "The images are no longer where they were when the study was made, and it has no thumbnails of them. "
    "tametail report STUDY --image-root FOLDER reads them from another folder."
)
MOST_ERRORS = 24
MOST_OF_A_GROUP = 2  # images of one patient
MOST_RARE = 6  # classes
MOST_OF_A_CLASS = 4


@dataclass(frozen=True)
class GalleryImage:
    """A thumbnail with the true class and the prediction.

    Attributes:
        number: its row in table.parquet, from 1.
        true, predicted: class names.
        probability: of the class predicted.
        source: a data URL.
    """

    number: int
    true: str
    predicted: str
    probability: float
    source: str

    @property
    def correct(self) -> bool:
        """Whether the prediction is correct."""
        return self.true == self.predicted

    @property
    def confidence(self) -> str:
        """``probability 97 %``."""
        percent = f"{100 * self.probability:.0f}"
        return f"probability {'> 99' if percent == '100' else percent} %"

    @property
    def alt(self) -> str:
        """Text alternative for screen readers."""
        return f"Image {self.number}. True: {self.true}. Predicted: {self.predicted}, {self.confidence}."


@dataclass(frozen=True)
class RareClass:
    """Images of a rare class, from the highest to the lowest probability of it."""

    name: str
    pictures: tuple[GalleryImage, ...]


@dataclass(frozen=True)
class Gallery:
    """The images shown, and the number of selected images that could not be read."""

    errors: tuple[GalleryImage, ...]
    rarest: tuple[RareClass, ...]
    missing: int


@dataclass(frozen=True)
class GallerySelection:
    """Rows of the predictions: errors, and images of each rare class by its index."""

    errors: tuple[int, ...]
    rarest: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def rows(self) -> list[int]:
        """All rows, each once."""
        return sorted({*self.errors, *(row for _, rows in self.rarest for row in rows)})


def gallery(directory: Path, results: StudyResults, root: Path | None) -> Gallery | str:
    """The images for the best method of a study, or a message if there are none.

    Thumbnails of images under ``root`` are saved in the study's folder.

    Args:
        directory: the study.
        results: its results.
        root: the folder of its images; None if unknown.

    Raises:
        DataError: a file of the study is damaged.
        OSError: a thumbnail cannot be written.
    """
    if results.multi_label or not results.ranking:
        return "Reports of multi-label studies show no images."
    best = results.ranking[0].method
    runs = next(of_method for of_method in find_runs(directory, results.settings) if of_method.method == best)
    predictions = ensemble(runs.replicates)
    chosen = select_images(predictions, results.by_frequency)
    numbers = _numbers(directory, predictions, chosen.rows)
    names = {number: str(predictions.image[row]) for row, number in numbers.items()}
    if not names:
        return "There are no errors and no images of rare classes."
    copies = thumbnails(directory, names, root, results.settings["table"].get("bit_depth"))
    if not copies:
        return IMAGES_MISSING
    sources = {
        row: f"data:image/jpeg;base64,{base64.b64encode(copies[number]).decode('ascii')}"
        for row, number in numbers.items()
        if number in copies
    }

    def pictures(rows: Sequence[int]) -> tuple[GalleryImage, ...]:
        return tuple(_picture(predictions, row, numbers[row], sources[row]) for row in rows if row in sources)

    rarest = tuple(RareClass(predictions.class_names[index], pictures(rows)) for index, rows in chosen.rarest)
    return Gallery(
        pictures(chosen.errors),
        tuple(one for one in rarest if one.pictures),
        len(numbers) - len(sources),
    )


def select_images(predictions: Predictions, by_frequency: Sequence[int]) -> GallerySelection:
    """Select images.

    Errors are those with the highest probability of the predicted class, at most ``MOST_OF_A_GROUP`` per group. Of the
    rarest third of the classes (at least one, at most ``MOST_RARE``), images are spaced evenly from the highest to the
    lowest probability of their own class.

    Args:
        predictions: of the best method, each image once.
        by_frequency: C class indices, the rarest last.
    """
    rows = np.arange(len(predictions))
    p, predicted = predictions.probabilities, predictions.predicted
    confidence = p[rows, predicted]
    wrong = np.flatnonzero(predicted != predictions.target)
    by_confidence = wrong[np.argsort(-confidence[wrong], kind="stable")]
    rare = list(by_frequency)[::-1][: min(max(len(by_frequency) // 3, 1), MOST_RARE)]
    return GallerySelection(
        tuple(few_of_each(by_confidence, predictions.group, MOST_OF_A_GROUP, MOST_ERRORS)),
        tuple((index, tuple(_spread(np.flatnonzero(predictions.target == index), p[:, index]))) for index in rare),
    )  # fmt: skip


def _spread(rows: IntArray, probability: NDArray[np.float64]) -> list[int]:
    if not len(rows):
        return []
    ordered = rows[np.argsort(-probability[rows], kind="stable")]
    places = np.linspace(0, len(ordered) - 1, min(MOST_OF_A_CLASS, len(ordered))).round().astype(int)
    return [int(row) for row in ordered[places]]


def _numbers(directory: Path, predictions: Predictions, rows: Sequence[int]) -> dict[int, int]:
    """The row in table.parquet, from 1, of each row of the predictions."""

    images = read_frame(directory / "table.parquet", ["image"])["image"]
    places = {image: number for number, image in enumerate(images, start=1)}
    try:
        return {row: places[str(predictions.image[row])] for row in rows}
    except KeyError as error:
        raise DataError(f"expected every image of the predictions in the table of {directory}, {error} is missing") from None  # fmt: skip


def _picture(predictions: Predictions, row: int, number: int, source: str) -> GalleryImage:
    names, predicted = predictions.class_names, int(predictions.predicted[row])
    return GalleryImage(
        number,
        names[int(predictions.target[row])],
        names[predicted],
        float(predictions.probabilities[row, predicted]),
        source,
    )
