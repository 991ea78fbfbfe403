"""Writes the three files of a report at the top of the study's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tametail.errors import TametailError
from tametail.evaluation_file import is_evaluation
from tametail.report.asked import remember, remembered
from tametail.report.evaluation_results import read_evaluation
from tametail.report.gallery import Gallery, gallery
from tametail.report.markdown import results_markdown
from tametail.report.reading import read_results
from tametail.report.study_results import StudyResults
from tametail.report.tables import RESULTS_CSV, results_csv
from tametail.study_file import remembered_root
from tametail.whole_files import write_atomically

LEFT_OUT = (
    "Left out, as the report was asked for without them. tametail report STUDY --images brings them back."
)


def write_report(
    directory: Path,
    *,
    images: bool | None = None,
    by: Sequence[str] | None = None,
    operating: Sequence[tuple[str, float]] | None = None,
    ordered: bool | None = None,
    image_root: str | Path | None = None,
) -> Path:
    """Write report.html, results.csv and results.md from what the study's folder holds.

    Each file is replaced in one step, and only once all three could be made.

    Args:
        directory: the study.
        images: whether the page shows images. This and the next three are remembered for later reports; None for what
            is remembered, at first with images and nothing more.
        by: columns carried along with the images, to evaluate by.
        operating: classes, each with the sensitivity in (0, 1] that is required for it.
        ordered: the classes are grades, in the order of their names: they get a kappa.
        image_root: where the images lie now, if they have moved since.

    Returns:
        The path of report.html.

    Raises:
        DataError: the folder holds no study, or one of its files is damaged.
        TametailError: the folder cannot be written.
    """
    from tametail.report.html import results_html

    try:
        finished = is_evaluation(directory)
        before = remembered(directory)
        asked = before.changed(images=images, by=_tuple(by), operating=_tuple(operating), ordered=ordered)
        results = read_evaluation(directory) if finished else read_results(directory, asked)
        pictures = _gallery(directory, results, image_root) if asked.images and not finished else LEFT_OUT
        files = {
            RESULTS_CSV: results_csv(results),
            "results.md": results_markdown(results),
            "report.html": results_html(results, pictures),
        }
        if asked != before:
            remember(directory, asked)
        for name, text in files.items():
            write_atomically(directory / name, text)
    except OSError as error:
        raise TametailError(
            f"the report cannot be written to {directory} ({error.strerror or error})"
        ) from error
    return directory / "report.html"


def _gallery(directory: Path, results: StudyResults, image_root: str | Path | None) -> Gallery | str:
    root = Path(image_root) if image_root is not None else remembered_root(directory)
    return gallery(directory, results, root)


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
