"""Writes the three files of a report at the top of the study's folder."""

from __future__ import annotations

import json
from pathlib import Path

from tametail.errors import DataError, TametailError
from tametail.evaluation_file import is_evaluation
from tametail.report.evaluation_results import read_evaluation
from tametail.report.gallery import Gallery, gallery
from tametail.report.markdown import results_markdown
from tametail.report.reading import read_results
from tametail.report.study_results import StudyResults
from tametail.report.tables import RESULTS_CSV, results_csv
from tametail.study_file import remembered_root
from tametail.whole_files import write_atomically

SETTINGS = "report.json"
LEFT_OUT = (
    "Left out, as the report was asked for without them. tametail report STUDY --images brings them back."
)


def write_report(
    directory: Path, *, images: bool | None = None, image_root: str | Path | None = None
) -> Path:
    """Write report.html, results.csv and results.md from what the study's folder holds.

    Each file is replaced in one step, and only once all three could be made.

    Args:
        directory: the study.
        images: whether the page shows images; remembered for later reports. None for what is remembered, at first yes.
        image_root: where the images lie now, if they have moved since.

    Returns:
        The path of report.html.

    Raises:
        DataError: the folder holds no study, or one of its files is damaged.
        TametailError: the folder cannot be written.
    """
    from tametail.report.html import results_html

    results = read_evaluation(directory) if is_evaluation(directory) else read_results(directory)
    try:
        shown = _images(directory, images)
        pictures = _gallery(directory, results, image_root) if shown and not results.evaluated else LEFT_OUT
        files = {
            RESULTS_CSV: results_csv(results),
            "results.md": results_markdown(results),
            "report.html": results_html(results, pictures),
        }
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


def _images(directory: Path, asked: bool | None) -> bool:
    """Whether images are shown: what is asked now, which is then remembered, or what was asked before."""
    path = directory / SETTINGS
    if asked is not None:
        write_atomically(path, json.dumps({"images": asked}) + "\n")
        return asked
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["images"])
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'expected {path} to say {{"images": true}} or false, but it cannot be read: {error}; remove it, or repeat '
            "with --images or --no-images"
        ) from error
