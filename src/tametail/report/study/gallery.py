"""Images for the report: the surest mistakes of the best loss, and how its rarest classes fare, out of fold.

The test set stays out of it. An image is known by its row in table.parquet, never by its name or folder, which may
tell who a patient is. Shape legend: N images, C classes.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.core.errors import DataError
from tametail.predictions.single_label import Predictions, ensemble
from tametail.report.study.results import StudyResults
from tametail.report.study.runs import find_runs
from tametail.report.study.thumbnails import thumbnails

NOT_THERE = (
    "The images are not where they were when the study was made, and no small copies of them are kept beside it, so none "
    "can be shown. tametail report STUDY --image-root FOLDER finds them elsewhere."
)
MOST_MISTAKES = 24
MOST_OF_A_GROUP = 2  # of one patient, say, who would fill the page
MOST_RARE = 6  # classes
MOST_OF_A_CLASS = 4


@dataclass(frozen=True)
class Picture:
    """A small copy of an image with what is true of it and what was predicted.

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
    def right(self) -> bool:
        """Whether the prediction is."""
        return self.true == self.predicted

    @property
    def sure(self) -> str:
        """``97 % sure``."""
        percent = f"{100 * self.probability:.0f}"
        return f"{'over 99' if percent == '100' else percent} % sure"

    @property
    def alt(self) -> str:
        """What is to be known of it without seeing it."""
        return f"Image {self.number}. True: {self.true}. Predicted: {self.predicted}, {self.sure}."


@dataclass(frozen=True)
class RareClass:
    """Images of a rare class, from the most surely recognised to the most surely missed."""

    name: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """What is shown, and how many chosen images could not be."""

    mistakes: tuple[Picture, ...]
    rarest: tuple[RareClass, ...]
    missing: int


@dataclass(frozen=True)
class Choice:
    """Rows of the predictions: of mistakes, and of each rare class by its index."""

    mistakes: tuple[int, ...]
    rarest: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def rows(self) -> list[int]:
        """All of them, each once."""
        return sorted({*self.mistakes, *(row for _, rows in self.rarest for row in rows)})


def gallery(directory: Path, results: StudyResults, root: Path | None) -> Gallery | str:
    """The images of a study's best loss; in words, why there are none.

    Small copies are made of images under ``root`` and kept in the study's folder, for when the images are elsewhere.

    Args:
        directory: the study.
        results: what it says.
        root: the folder of its images; None where it is not known.

    Raises:
        DataError: a file of the study is damaged.
        OSError: the copies cannot be written.
    """
    if results.multi_label or not results.ranking:
        return "No images are shown for this kind of study."
    best = results.ranking[0].method
    runs = next(of_method for of_method in find_runs(directory, results.settings) if of_method.method == best)
    predictions = ensemble(runs.replicates)
    chosen = choose(predictions, results.class_order)
    numbers = _numbers(directory, predictions, chosen.rows)
    names = {number: str(predictions.image[row]) for row, number in numbers.items()}
    if not names:
        return "No image was mistaken, and none is of a rare class."
    copies = thumbnails(directory, names, root)
    if not copies:
        return NOT_THERE
    sources = {
        row: f"data:image/jpeg;base64,{base64.b64encode(copies[number]).decode('ascii')}"
        for row, number in numbers.items()
        if number in copies
    }

    def pictures(rows: Sequence[int]) -> tuple[Picture, ...]:
        return tuple(_picture(predictions, row, numbers[row], sources[row]) for row in rows if row in sources)

    rarest = tuple(RareClass(predictions.class_names[index], pictures(rows)) for index, rows in chosen.rarest)
    return Gallery(
        pictures(chosen.mistakes),
        tuple(one for one in rarest if one.pictures),
        len(numbers) - len(sources),
    )


def choose(predictions: Predictions, class_order: Sequence[int]) -> Choice:
    """Which images to show.

    Mistakes are those of the highest probability of what was predicted, at most ``MOST_OF_A_GROUP`` of one group. Of
    the rarest third of the classes (at least one, at most ``MOST_RARE``) images are spread evenly from the highest
    probability of their own class to the lowest.

    Args:
        predictions: of the best loss, each image once.
        class_order: C class indices, the rarest last.
    """
    rows = np.arange(len(predictions))
    p, predicted = predictions.probabilities, predictions.predicted
    sure = p[rows, predicted]
    wrong = np.flatnonzero(predicted != predictions.target)
    by_sureness = wrong[np.argsort(-sure[wrong], kind="stable")]
    rare = list(class_order)[::-1][: min(max(len(class_order) // 3, 1), MOST_RARE)]
    return Choice(
        tuple(_few_of_a_group(by_sureness, predictions.group)),
        tuple((index, tuple(_spread(np.flatnonzero(predictions.target == index), p[:, index]))) for index in rare),
    )  # fmt: skip


def _few_of_a_group(rows: IntArray, group: NDArray[np.str_]) -> list[int]:
    chosen: list[int] = []
    seen: Counter[str] = Counter()
    for row in rows:
        if len(chosen) == MOST_MISTAKES:
            break
        if seen[str(group[row])] < MOST_OF_A_GROUP:
            seen[str(group[row])] += 1
            chosen.append(int(row))
    return chosen


def _spread(rows: IntArray, probability: NDArray[np.float64]) -> list[int]:
    if not len(rows):
        return []
    ordered = rows[np.argsort(-probability[rows], kind="stable")]
    places = np.linspace(0, len(ordered) - 1, min(MOST_OF_A_CLASS, len(ordered))).round().astype(int)
    return [int(row) for row in ordered[places]]


def _numbers(directory: Path, predictions: Predictions, rows: Sequence[int]) -> dict[int, int]:
    """The row in table.parquet, from 1, of each row of the predictions."""
    import pandas as pd

    images = pd.read_parquet(directory / "table.parquet", columns=["image"])["image"]
    places = {image: number for number, image in enumerate(images, start=1)}
    try:
        return {row: places[str(predictions.image[row])] for row in rows}
    except KeyError as error:
        raise DataError(f"expected every image of the predictions in the table of {directory}, found {error} not there") from None  # fmt: skip


def _picture(predictions: Predictions, row: int, number: int, source: str) -> Picture:
    names, predicted = predictions.class_names, int(predictions.predicted[row])
    return Picture(
        number,
        names[int(predictions.target[row])],
        names[predicted],
        float(predictions.probabilities[row, predicted]),
        source,
    )
