"""Images of the report: the most confident errors of the best method, and images of the rarest classes.

Predictions are out-of-fold; test images are never shown. An image is identified by its row in table.parquet, as file and
folder names may identify patients. Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import FloatArray, IntArray, few_of_each
from tametail.core.errors import DataError
from tametail.core.parquet_file import read_frame
from tametail.evaluation.label_calibration import apply_label_map, deployed_thresholds
from tametail.predictions.multi_label import LabelPredictions, ensemble_labels
from tametail.predictions.single_label import Predictions, ensemble
from tametail.report.jpeg import jpeg_url
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
    if not results.ranking:
        return "No method is finished."
    best = results.ranking[0]
    runs = next(each for each in find_runs(directory, results.settings) if each.method == best.method)
    if best.label_calibration is not None:
        calibration = best.label_calibration.map
        thresholds = deployed_thresholds(runs.label_replicates, calibration)
        labels = apply_label_map(calibration, ensemble_labels(runs.label_replicates))
        image, chosen = labels.image, select_labels(labels, thresholds, results.by_frequency)
    else:
        predictions = ensemble(runs.replicates)
        image = predictions.image
        chosen = _of_classes(predictions, select_images(predictions, results.by_frequency))
    numbers = _numbers(directory, image, chosen.rows)
    names = {number: str(image[row]) for row, number in numbers.items()}
    if not names:
        return "There are no errors and no images of rare classes."
    copies = thumbnails(directory, names, root, results.settings["table"].get("bit_depth"))
    if not copies:
        return IMAGES_MISSING
    sources = {row: jpeg_url(copies[number]) for row, number in numbers.items() if number in copies}

    def pictures(shown: Sequence[Decision]) -> tuple[GalleryImage, ...]:
        return tuple(
            GalleryImage(numbers[one.row], one.true, one.predicted, one.probability, sources[one.row])
            for one in shown
            if one.row in sources
        )

    rarest = tuple(RareClass(name, pictures(shown)) for name, shown in chosen.rarest)
    return Gallery(
        pictures(chosen.errors),
        tuple(one for one in rarest if one.pictures),
        len(numbers) - len(sources),
    )


@dataclass(frozen=True)
class Decision:
    """A row of the predictions with what is true, what is predicted, and the probability of that."""

    row: int
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Decisions:
    """Errors, and images of each rare class or label by its name."""

    errors: tuple[Decision, ...]
    rarest: tuple[tuple[str, tuple[Decision, ...]], ...]

    @property
    def rows(self) -> list[int]:
        """All rows, each once."""
        return sorted(
            {one.row for one in (*self.errors, *(one for _, shown in self.rarest for one in shown))}
        )


def _of_classes(predictions: Predictions, chosen: GallerySelection) -> Decisions:
    names, p = predictions.class_names, predictions.probabilities

    def decisions(rows: Sequence[int]) -> tuple[Decision, ...]:
        found = []
        for row in rows:
            predicted = int(predictions.predicted[row])
            true = names[int(predictions.target[row])]
            found.append(Decision(row, true, names[predicted], float(p[row, predicted])))
        return tuple(found)

    return Decisions(
        decisions(chosen.errors), tuple((names[index], decisions(rows)) for index, rows in chosen.rarest)
    )


def select_labels(
    predictions: LabelPredictions, thresholds: FloatArray, by_frequency: Sequence[int]
) -> Decisions:
    """Select images of several labels, as `select_images` does of classes.

    An error is a known label that is predicted and absent, or present and not predicted, with the probability of what was
    decided. The most confident ones of both kinds are shown in turn, as the absence of a rare label is always more probable than
    its presence; an image is shown once.

    Args:
        predictions: calibrated, each image once.
        thresholds: (C,) of the calibrated probabilities.
        by_frequency: C label indices, the rarest last.
    """
    p, names = predictions.posterior.astype(np.float64), predictions.class_names
    decided = predictions.decided(thresholds)
    confidence = np.where(decided, p, 1 - p)

    def decision(row: int, index: int) -> Decision:
        has, said = (
            f"{'' if of[row, index] else 'no '}{names[index]}" for of in (predictions.labels, decided)
        )
        return Decision(row, has, said, float(confidence[row, index]))

    wrong = (decided != predictions.labels) & predictions.known
    kinds = [_worst(np.where(wrong & of_kind, confidence, -1.0)) for of_kind in (decided, ~decided)]
    in_turn = [one for both in zip_longest(*kinds) for one in both if one is not None]
    index = dict(reversed(in_turn))  # the first error of an image counts
    ordered = np.array(list(dict.fromkeys(row for row, _ in in_turn)), dtype=np.int64)
    errors = few_of_each(ordered, predictions.group, MOST_OF_A_GROUP, MOST_ERRORS)
    rarest = tuple(
        (
            names[at],
            tuple(decision(row, at) for row in _spread(np.flatnonzero(predictions.labels[:, at]), p[:, at])),
        )
        for at in _rarest(by_frequency)
    )
    return Decisions(tuple(decision(row, index[row]) for row in errors), rarest)


def _worst(confidence: FloatArray) -> list[tuple[int, int]]:
    """Row and label of the highest value (N, C) of each row that has one of 0 or more, the highest first."""
    label = confidence.argmax(axis=1)
    highest = confidence[np.arange(len(label)), label]
    rows = np.argsort(-highest, kind="stable")
    return [(int(row), int(label[row])) for row in rows if highest[row] >= 0]


def _rarest(by_frequency: Sequence[int]) -> list[int]:
    """The rarest third of the classes, the rarest first."""
    return list(by_frequency)[::-1][: min(max(len(by_frequency) // 3, 1), MOST_RARE)]


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
    rare = _rarest(by_frequency)
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


def _numbers(directory: Path, image: NDArray[np.str_], rows: Sequence[int]) -> dict[int, int]:
    """The row in table.parquet, from 1, of each row of the predictions."""

    images = read_frame(directory / "table.parquet", ["image"])["image"]
    places = {name: number for number, name in enumerate(images, start=1)}
    try:
        return {row: places[str(image[row])] for row in rows}
    except KeyError as error:
        raise DataError(f"expected every image of the predictions in the table of {directory}, {error} is missing") from None  # fmt: skip
