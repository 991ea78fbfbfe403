"""Writes the three files at the top of a study, and the short table for the terminal."""

from __future__ import annotations

from pathlib import Path

from tametail.errors import TametailError
from tametail.report import wording
from tametail.report.markdown import results_markdown
from tametail.report.study_results import read_results
from tametail.report.tables import results_csv
from tametail.study_file import write_atomically


def write_report(directory: Path) -> Path:
    """Write report.html, results.csv and results.md from what the study's folder holds.

    Returns:
        The path of report.html.

    Raises:
        DataError: the folder holds no study, or a damaged one. TametailError: it cannot be written.
    """
    from tametail.report.html import results_html

    results = read_results(directory)
    files = {
        "results.csv": results_csv(results),
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


def results_table(directory: Path) -> str:
    """The ranking for a terminal: plain text, one line per loss, and the state of the test part."""
    results = read_results(directory)
    lines = [wording.SYNTHETIC] if results.settings["synthetic"] else []
    width = max(len("loss"), *(len(result.loss) for result in results.losses))
    lines.append(f"    {'loss':{width}}  balanced accuracy, %   macro-F1            n")
    for rank, result in enumerate(results.losses, start=1):
        if result.out_of_fold is None:
            lines.append(f"    {result.loss:{width}}  {result.status}")
            continue
        accuracy, f1 = result.out_of_fold.balanced_accuracy, result.out_of_fold.macro_f1
        lines.append(
            f"{rank:2}  {result.loss:{width}}  {wording.percent(accuracy.value)} ({wording.percent_interval(accuracy)})"
            f"     {wording.score(f1.value)} ({wording.score_interval(f1)})  {accuracy.n}"
        )
    lines += [" ".join(wording.answer(results)), wording.state_of_test_part(results)[0]]
    return "\n".join(lines)
