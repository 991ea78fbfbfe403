"""Writes the files of a report at the top of the study's folder: all of them, or, if one cannot be made, none.

Always: report.html, results.csv, results.md, results.tex, metrics.json and, of a study, model_card.md. On request:
figures/ and partial.md with partial.csv; once they are there they are made again with the rest, so that no file of a
study speaks of other runs than its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import TametailError, UsageError
from tametail.core.option import declared, read_operating, takes
from tametail.core.options import AnalysisOptions, WriteReportOptions
from tametail.report.figures.files import FIGURES, NAMES, figure_files, formats_of, formats_there
from tametail.report.options import load_options, save_options
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
from tametail.report.study.thumbnails import forget
from tametail.report.writers.csv import RESULTS_CSV, results_csv
from tametail.report.writers.json import METRICS, metrics_json
from tametail.report.writers.latex import RESULTS_TEX, results_tex
from tametail.report.writers.markdown import results_markdown
from tametail.report.writers.model_card import MODEL_CARD, model_card
from tametail.storage.evaluation_file import is_evaluation
from tametail.storage.study_file import remembered_root

LEFT_OUT = (
    "Left out, as the report was asked for without them. tametail report STUDY --images brings them back."
)


@takes(WriteReportOptions)
def write_report(study: str | Path, **options: Unpack[WriteReportOptions]) -> Path:
    """Write the report of a study or an evaluation from its files: HTML, CSV, Markdown, LaTeX and JSON.

    Each file is replaced in one step, and only once all of them could be made. ``images``, ``by``, ``operating`` and
    ``ordered`` are remembered for later reports; empty lists reset them.

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
            f"{directory} holds an evaluation: what it is evaluated by is given to tametail evaluate, and it has no images "
            "and no unfinished runs; leave the options out, or make it again"
        )
    try:
        before = load_options(directory)
        asked = replace(before, **changes)
        results = read_evaluation(directory) if evaluation else read_results(directory, asked)
        pictures = _gallery(directory, results, image_root) if asked.images and not evaluation else LEFT_OUT
        formats = dict.fromkeys((*figures, *formats_there(directory)))
        files: dict[str, str | bytes | None] = {
            RESULTS_CSV: results_csv(results),
            "results.md": results_markdown(results),
            RESULTS_TEX: results_tex(results),
            METRICS: metrics_json(results),
            **({} if results.evaluated else {MODEL_CARD: model_card(results)}),
            **_partial(directory, results, asked=partial),
            **_figures(directory, results, tuple(formats)),
            "report.html": results_html(results, pictures),
        }
        if asked != before:
            save_options(directory, asked)
        if not asked.images:
            forget(directory)
        for name, content in files.items():
            _place(directory / name, content)
    except OSError as error:
        raise TametailError(
            f"the report cannot be written to {directory} ({error.strerror or error})"
        ) from error
    return directory / "report.html"


def _changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """What is given of the options that later reports remember; empty texts are dropped."""
    given = {
        name: options[name] for name in ("images", *declared(AnalysisOptions)) if options[name] is not None
    }
    if "by" in given:
        given["by"] = tuple(filter(None, given["by"]))
    if "operating" in given:
        given["operating"] = read_operating([text for text in given["operating"] if text])
    return given


def _place(path: Path, content: str | bytes | None) -> None:
    """Write a file, or, where there is nothing to say any more, remove the one that says it."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        make_folder(path.parent)
        write_atomically(path, content)


def _partial(directory: Path, results: StudyResults, *, asked: bool) -> dict[str, str | None]:
    there = (directory / PARTIAL_MD).is_file()
    if results.evaluated or not (asked or there):
        return {}
    methods = partial_methods(directory)
    if not methods:
        return {PARTIAL_MD: None, PARTIAL_CSV: None}
    return {
        PARTIAL_MD: partial_markdown(results.settings["name"], results.headline, methods),
        PARTIAL_CSV: partial_csv(results.headline, methods),
    }


def _figures(directory: Path, results: StudyResults, formats: Sequence[str]) -> dict[str, bytes | None]:
    """The figures, and None for those of an earlier report that there are no more."""
    made = figure_files(results, formats) if formats else {}
    places = [f"{FIGURES}/{name}.{suffix}" for name in NAMES for suffix in formats]
    gone = (place for place in places if place not in made and (directory / place).is_file())
    return {**made, **dict.fromkeys(gone)}


def _gallery(directory: Path, results: StudyResults, image_root: str | Path | None) -> Gallery | str:
    root = Path(image_root) if image_root is not None else remembered_root(directory)
    return gallery(directory, results, root)
