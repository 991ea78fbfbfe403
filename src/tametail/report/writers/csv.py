"""results.csv, one row per loss, and its short form for the terminal.

results.csv has no time, path or date in it and is the same, byte for byte, whenever it is computed again.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tametail.core.errors import DataError
from tametail.evaluation import Evaluation
from tametail.report import formatting
from tametail.report.study import narrative
from tametail.report.study.evaluation_page import further_cells
from tametail.report.study.label_columns import label_cells
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.writers.csv_cells import Cells, estimate_cells, guarded
from tametail.storage.evaluation_file import is_evaluation
from tametail.storage.study_file import read_study_file, read_test_set_evaluations

RESULTS_CSV = "results.csv"
# Columns and titles of what ranks and of what stands beside it in the terminal.
_SINGLE_LABEL = ("balanced_accuracy", "Balanced accuracy, %", "macro_f1", "Macro-F1")
_MULTI_LABEL = ("average_precision", "Mean average precision, %", "auroc", "Macro AUROC")


def results_csv(results: StudyResults) -> str:
    """One row per loss as CSV text, in the order of `StudyResults.losses`.

    Shares have six decimals; what is undefined or not finished is empty. Columns that start with ``test_``
    (mean over the fold models) and ``test_ensemble_`` appear once the test set is opened.
    """
    rows = [_row(result, results) for result in results.methods]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow([guarded(column) for column, _ in rows[0]])
    # Losses that are not finished have nothing of what was asked for beyond the usual.
    writer.writerows([guarded(cell) for _, cell in row] + [""] * (len(rows[0]) - len(row)) for row in rows)
    return text.getvalue()


def _row(result: MethodResults, results: StudyResults) -> Cells:
    names = results.class_names
    cells = [
        ("method", result.method),
        ("data", results.settings["name"] + (" (synthetic)" if results.settings["synthetic"] else "")),
        ("status", result.status),
    ]
    if results.evaluated:
        cells += [("tables", str(result.finished)), *_evaluation("", result.out_of_fold, names)]
        return cells + further_cells(result)
    cells += [
        ("folds", narrative.count_of_folds(results.settings)),
        ("seeds", str(len(results.settings["seeds"]))),
    ]
    if results.multi_label:
        return cells + label_cells(result.labels, names, opened=results.opened)
    cells += _evaluation("", result.out_of_fold, names)
    if results.opened:
        cells += _evaluation("test_", result.test, names)
        cells += _evaluation("test_ensemble_", result.test_ensemble, names)
    return cells + further_cells(result)


def _evaluation(prefix: str, evaluation: Evaluation | None, class_names: Sequence[str]) -> Cells:
    cells = [
        (f"{prefix}n", str(evaluation.n) if evaluation else ""),
        (f"{prefix}groups", str(evaluation.groups) if evaluation else ""),
    ]
    for metric in ("balanced_accuracy", "macro_f1", "accuracy"):
        cells += estimate_cells(prefix + metric, getattr(evaluation, metric) if evaluation else None)
    for index, name in enumerate(class_names):
        of_class = evaluation.classes[index] if evaluation else None
        cells += estimate_cells(f"{prefix}recall_{name}", of_class.recall if of_class else None)
        cells.append((f"{prefix}n_{name}", str(of_class.n) if of_class else ""))
        cells += estimate_cells(f"{prefix}f1_{name}", of_class.f1 if of_class else None)
    return cells


def results_table(directory: Path) -> str:
    """The ranking as text for a terminal, from the results.csv that is there: nothing is computed again.

    Raises:
        DataError: the directory holds no study, or no results yet.
    """
    evaluated = is_evaluation(directory)
    settings = {} if evaluated else read_study_file(directory)
    openings = read_test_set_evaluations(directory)
    try:
        with (directory / RESULTS_CSV).open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except OSError as error:
        raise DataError(f"expected {RESULTS_CSV} in {directory}; make it with tametail report") from error
    headline, title, second, score = _MULTI_LABEL if settings.get("multi_label") else _SINGLE_LABEL
    ranked = [_line(place, row, headline, second) for place, row in enumerate(rows, start=1)]
    lines = [["Rank", "Model" if evaluated else "Loss", title, score, "n"], *ranked]
    if openings:
        lines[0] += ["Test: fold models, %", "ensemble, %", "n"]
        for line, row in zip(lines[1:], rows, strict=True):
            line += [_cell(row, f"test_{which}{headline}") for which in ("", "ensemble_")]
            line.append(row.get("test_n") or formatting.ABSENT)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    times = formatting.times(len(openings))
    text = [f"Out of fold, with 95 % intervals. Test set: {f'opened {times}' if openings else 'sealed'}."]
    if evaluated:
        text = ["On these images, with 95 % intervals."]
    text += [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(text + ([narrative.SYNTHETIC] if settings.get("synthetic") else []))


def _line(place: int, row: Mapping[str, str], headline: str, second: str) -> list[str]:
    if row["status"] != "complete":
        return [
            formatting.ABSENT,
            row["method"],
            row["status"],
            formatting.ABSENT,
            formatting.ABSENT,
        ]
    score = formatting.score(float(row[second] or math.nan))
    return [str(place), row["method"], _cell(row, headline), score, row["n"]]


def _cell(row: Mapping[str, str], column: str) -> str:
    value, low, high = (float(row.get(column + suffix) or math.nan) for suffix in ("", "_low", "_high"))
    interval = f" ({formatting.percent(low)}–{formatting.percent(high)})" if math.isfinite(low) else ""
    return formatting.percent(value) + interval
