"""Writes the three files of a report at the top of the study's folder."""

from __future__ import annotations

from pathlib import Path

from tametail.errors import TametailError
from tametail.report.markdown import results_markdown
from tametail.report.study_results import read_results
from tametail.report.tables import RESULTS_CSV, results_csv
from tametail.whole_files import write_atomically


def write_report(directory: Path) -> Path:
    """Write report.html, results.csv and results.md from what the study's folder holds.

    Each file is replaced in one step, and only once all three could be made.

    Returns:
        The path of report.html.

    Raises:
        DataError: the folder holds no study, or one of its files is damaged.
        TametailError: the folder cannot be written.
    """
    from tametail.report.html import results_html

    results = read_results(directory)
    files = {
        RESULTS_CSV: results_csv(results),
        "results.md": results_markdown(results),
        "report.html": results_html(results),
    }
    try:
        for name, text in files.items():
            write_atomically(directory / name, text)
    except OSError as error:
        raise TametailError(
            f"the report cannot be written to {directory} ({error.strerror or error})"
        ) from error
    return directory / "report.html"
