"""Figures of a report as files in print quality, for papers and slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tametail.core.errors import UsageError
from tametail.report.figures.confusion import confusion_drawing
from tametail.report.figures.export import FIGURE_FORMATS, printed
from tametail.report.figures.reliability import reliability_drawing
from tametail.report.figures.study_figures import (
    class_drawing,
    ranking_drawing,
    tail_drawing,
)
from tametail.report.figures.svg import Drawing
from tametail.report.study.matrices import MOST_CONFUSION_CLASSES
from tametail.report.study.results import StudyResults

FIGURES = "figures"
FIGURE_NAMES = ("tail", "ranking", "recall", "average-precision", "confusion", "reliability")


def drawings(results: StudyResults) -> list[Drawing]:
    """All figures of a study: images per class; ranking and classes; confusion matrix and reliability of the best method."""
    found = [tail_drawing(results)]
    if not results.ranking:
        return found
    best, few = results.ranking[0], len(results.class_names) <= MOST_CONFUSION_CLASSES
    found.append(ranking_drawing(results))
    if few:
        found.append(
            class_drawing(results, results.ranking, "average_precision" if results.multi_label else "recall")
        )
    if few and best.out_of_fold is not None and best.out_of_fold.confusion is not None:
        found.append(confusion_drawing(best.method, best.out_of_fold, results.in_order))
    if best.calibration is not None:
        found.append(reliability_drawing(best, "reliability"))
    return found


def figure_files(results: StudyResults, formats: Sequence[str]) -> dict[str, bytes]:
    """The content of each file by its name in the study's folder; the same results give the same bytes."""
    return {
        f"{FIGURES}/{drawn.name}.{suffix}": content
        for drawn in drawings(results)
        for suffix, content in printed(drawn, formats).items()
    }


def formats_of(text: str) -> tuple[str, ...]:
    """The formats in a text such as ``pdf,svg,png``.

    Raises:
        UsageError: one is not known, or there is none.
    """
    asked = tuple(
        dict.fromkeys(part.strip().lower().removeprefix(".") for part in text.split(",") if part.strip())
    )
    unknown = [one for one in asked if one not in FIGURE_FORMATS]
    if unknown or not asked:
        raise UsageError(
            f"expected --figures as some of {', '.join(FIGURE_FORMATS)} with commas, got {', '.join(unknown) or 'nothing'}"
        )
    return asked


def formats_there(directory: Path) -> tuple[str, ...]:
    """The formats of existing figures, which are updated with every report."""
    return tuple(
        suffix
        for suffix in FIGURE_FORMATS
        if any((directory / FIGURES / f"{name}.{suffix}").is_file() for name in FIGURE_NAMES)
    )
