"""Write the files of a report to the study's folder: all of them, or none if one of them fails.

Always written: report.html, results.csv, results_long.csv, results.md, results.tex, metrics.json and, for a study, model_card.md
and calibration.json. On request:
figures/, and partial.md with partial.csv; once these exist they are updated with every report, so that all files describe
the same runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import TametailError, UsageError, as_usage_error
from tametail.core.option import declared, read_operating, takes
from tametail.core.options import AnalysisOptions, PredictByOptions, WriteReportOptions
from tametail.core.removal import remove
from tametail.evaluation.class_order import check_ordered
from tametail.evaluation.conformal import checked_coverage
from tametail.report.figures.files import FIGURE_NAMES, FIGURES, figure_files, formats_of, formats_there
from tametail.report.options import load_options, save_options
from tametail.report.study.calibration_file import CALIBRATION_JSON, calibration_json
from tametail.report.study.evaluation_results import read_evaluation
from tametail.report.study.gallery import Gallery, gallery
from tametail.report.study.partial import (
    PARTIAL_CSV,
    PARTIAL_MD,
    partial_csv,
    partial_markdown,
    partial_methods,
)
from tametail.report.study.reading import read_results
from tametail.report.study.results import StudyResults
from tametail.report.study.thumbnails import remove_thumbnails
from tametail.report.writers.csv import RESULTS_CSV, RESULTS_LONG_CSV, results_csv, results_long_csv
from tametail.report.writers.json import METRICS_JSON, metrics_json
from tametail.report.writers.latex import RESULTS_TEX, results_tex
from tametail.report.writers.markdown import results_markdown
from tametail.report.writers.model_card import MODEL_CARD, model_card
from tametail.storage.evaluation_file import is_evaluation
from tametail.storage.study_file import read_study_file, remembered_root

NO_IMAGES = "This report was made without images. tametail report STUDY --images includes them."


@takes(WriteReportOptions)
def write_report(study: str | Path, **options: Unpack[WriteReportOptions]) -> Path:
    """Write the report of a study or an evaluation from its files: HTML, CSV, Markdown, LaTeX and JSON.

    All files are computed first; each is then replaced atomically. ``images``, ``show``, ``coverage``, ``predict_by``, ``by``,
    ``operating``, ``ordered`` and ``class_order`` are saved for later reports; empty lists reset them.

    Args:
        study: its folder.
        options: see below.

    Returns:
        The path of report.html.

    Raises:
        DataError: there is no study, or one of its files is damaged.
        TametailError: the folder cannot be written.
        UsageError: an option that this study does not support, or of an evaluation.
    """
    from tametail.report.study.page import results_html

    directory, image_root, partial = Path(study), options["image_root"], options["partial"]
    changes = _changes(options)
    figures = () if options["figures"] is None else formats_of(",".join(options["figures"]))
    evaluation = is_evaluation(directory)
    if evaluation and (partial or changes):
        raise UsageError(
            f"{directory} holds an evaluation, whose options are given to tametail evaluate; it has no images "
            "and no unfinished runs. Omit these options, or run tametail evaluate again"
        )
    if "coverage" in changes and read_study_file(directory).get("multi_label"):
        raise UsageError(
            f"--coverage is of prediction sets, for images of one class each, but those of {directory} may have several labels, each "
            "predicted at its threshold; omit it"
        )
    try:
        before = load_options(directory)
        chosen = replace(before, **changes)
        results = read_evaluation(directory) if evaluation else read_results(directory, chosen)
        pictures = _gallery(directory, results, image_root) if chosen.images and not evaluation else NO_IMAGES
        formats = dict.fromkeys((*figures, *formats_there(directory)))
        files: dict[str, str | bytes | None] = {
            RESULTS_CSV: results_csv(results),
            RESULTS_LONG_CSV: results_long_csv(results),
            "results.md": results_markdown(results),
            RESULTS_TEX: results_tex(results),
            METRICS_JSON: metrics_json(results),
            **({} if results.is_evaluation else _of_a_study(results)),
            **_partial(directory, results, requested=partial),
            **_figures(directory, results, tuple(formats)),
            "report.html": results_html(results, pictures),
        }
        if chosen != before:
            save_options(directory, chosen)
        if not chosen.images:
            remove_thumbnails(directory)
        for name, content in files.items():
            _place(directory.resolve() / name, content)
    except OSError as error:
        raise TametailError(
            f"the report cannot be written to {directory} ({error.strerror or error})"
        ) from error
    return directory / "report.html"


def _of_a_study(results: StudyResults) -> dict[str, str | None]:
    return {MODEL_CARD: model_card(results), CALIBRATION_JSON: calibration_json(results)}


def _changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """The given options that are saved for later reports; empty texts are dropped."""
    given = {
        name: options[name]
        for name in ("images", "show", "coverage", *declared(PredictByOptions), *declared(AnalysisOptions))
        if options[name] is not None
    }
    if "show" in given:
        given["show"] = tuple(name for name in given["show"] if name != "none")
    if "coverage" in given:
        with as_usage_error("give another --coverage"):
            checked_coverage(given["coverage"])
    if "by" in given:
        given["by"] = tuple(filter(None, given["by"]))
    if "operating" in given:
        given["operating"] = read_operating([text for text in given["operating"] if text])
    if "class_order" in given:
        check_ordered(options["ordered"], given["class_order"])
        given["class_order"] = tuple(given["class_order"])
        given = {"ordered": bool(given["class_order"]) or None} | given
    return given


def _place(path: Path, content: str | bytes | None) -> None:
    """Write a file, or remove it if there is no content."""
    if content is None:
        remove(path)
    else:
        make_folder(path.parent)
        write_atomically(path, content)


def _partial(directory: Path, results: StudyResults, *, requested: bool) -> dict[str, str | None]:
    there = (directory / PARTIAL_MD).is_file()
    if results.is_evaluation or not (requested or there):
        return {}
    methods = partial_methods(directory, results.predict_by)
    if not methods:
        return {PARTIAL_MD: None, PARTIAL_CSV: None}
    return {
        PARTIAL_MD: partial_markdown(results.settings["name"], results.headline, methods),
        PARTIAL_CSV: partial_csv(results.headline, methods),
    }


def _figures(directory: Path, results: StudyResults, formats: Sequence[str]) -> dict[str, bytes | None]:
    """The figures; None for outdated ones of an earlier report."""
    made = figure_files(results, formats) if formats else {}
    places = [f"{FIGURES}/{name}.{suffix}" for name in FIGURE_NAMES for suffix in formats]
    gone = (place for place in places if place not in made and (directory / place).is_file())
    return {**made, **dict.fromkeys(gone)}


def _gallery(directory: Path, results: StudyResults, image_root: str | Path | None) -> Gallery | str:
    root = Path(image_root) if image_root is not None else remembered_root(directory)
    return gallery(directory, results, root)
