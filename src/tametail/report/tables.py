"""results.csv: one row per loss, every number with its interval, the same bytes whenever it is computed again.

No time, path or date is in it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from tametail.evaluation import Estimate, Evaluation
from tametail.report.study_results import LossResults, StudyResults

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
Cells = list[tuple[str, str]]  # column name and text; names of odd classes may repeat, so not a dict


def results_csv(results: StudyResults) -> str:
    """One row per loss as CSV text, in the order of `StudyResults.losses`.

    Shares have six decimals; what is undefined or not finished is empty. Columns that start with ``test_``
    (mean over the fold models) and ``test_ensemble_`` appear once the test part is opened.
    """
    rows = [_row(result, results) for result in results.losses]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow([_guarded(column) for column, _ in rows[0]])
    writer.writerows([_guarded(cell) for _, cell in row] for row in rows)
    return text.getvalue()


def _row(result: LossResults, results: StudyResults) -> Cells:
    names = results.class_names
    cells = [
        ("loss", result.loss),
        ("status", result.status),
        ("folds", str(results.settings["splits"]["folds"])),
        ("seeds", str(len(results.settings["seeds"]))),
        *_evaluation("", result.out_of_fold, names),
    ]
    if results.opened:
        cells += _evaluation("test_", result.test, names)
        cells += _evaluation("test_ensemble_", result.test_ensemble, names)
    return cells


def _evaluation(prefix: str, evaluation: Evaluation | None, class_names: Sequence[str]) -> Cells:
    cells = [
        (f"{prefix}n", str(evaluation.n) if evaluation else ""),
        (f"{prefix}groups", str(evaluation.groups) if evaluation else ""),
    ]
    for metric in ("balanced_accuracy", "macro_f1", "accuracy"):
        cells += _estimate(prefix + metric, getattr(evaluation, metric) if evaluation else None)
    for index, name in enumerate(class_names):
        of_class = evaluation.classes[index] if evaluation else None
        cells += _estimate(f"{prefix}recall_{name}", of_class.recall if of_class else None)
        cells.append((f"{prefix}n_{name}", str(of_class.n) if of_class else ""))
        cells += _estimate(f"{prefix}f1_{name}", of_class.f1 if of_class else None)
    return cells


def _estimate(column: str, estimate: Estimate | None) -> Cells:
    parts = (("", "value"), ("_low", "low"), ("_high", "high"))
    return [
        (column + suffix, _share(getattr(estimate, field) if estimate else math.nan))
        for suffix, field in parts
    ]


def _share(value: float) -> str:
    return f"{value:.6f}" if math.isfinite(value) else ""


def _guarded(cell: str) -> str:
    """A spreadsheet runs a cell that starts like a formula; an apostrophe makes it text."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
