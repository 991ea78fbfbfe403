"""results.csv, one row per method, and its short form for the terminal.

results.csv contains no time, path or date; the same results give the same bytes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tametail.core.errors import DataError
from tametail.core.regular_file import regular
from tametail.core.text import align_columns
from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.class_order import order_in_words, order_sentence
from tametail.evaluation.multi_label import LabelEvaluation
from tametail.report import formatting
from tametail.report.study import narrative
from tametail.report.study.clinical_tables import clinical_cells
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.writers.csv_cells import Cells, csv_text, estimate_cells, six_decimals
from tametail.report.writers.metric_names import OF_LABEL, OVER_LABELS
from tametail.storage.evaluation_file import is_evaluation
from tametail.storage.study_file import read_study_file, read_test_set_evaluations, read_test_set_looks

if TYPE_CHECKING:
    import pandas as pd

RESULTS_CSV = "results.csv"
# Columns and titles of the terminal: the score that ranks, and a second one.
_SINGLE_LABEL = ("balanced_accuracy", "Balanced accuracy, %", "macro_f1", "Macro-F1")
_MULTI_LABEL = ("average_precision", "Mean average precision, %", "auroc", "Macro AUROC")
_OVERALL = ("balanced_accuracy", "macro_f1", "accuracy")
_CLASS_ORDER = "class_order"


def results_csv(results: StudyResults) -> str:
    """One row per method as CSV text, in the order of `StudyResults.methods`.

    Proportions have six decimals; undefined and unfinished values are empty. For a multi-label study,
    ``threshold_<label>`` is for new images; decisions at chosen thresholds have plain names, those at 0.5 end in
    ``_at_half``. Columns that start with ``test_`` (mean over the fold models) and ``test_ensemble_`` appear after the
    test-set evaluation.
    """
    return csv_text([_row(result, results) for result in results.methods])


def _row(result: MethodResults, results: StudyResults) -> Cells:
    names, settings = results.class_names, results.settings
    additional = (
        list(results.ranking[0].out_of_fold.additional)
        if results.ranking and results.ranking[0].out_of_fold
        else []
    )
    cells = [
        ("method", result.method),
        ("data", settings["name"] + (" (synthetic)" if settings["synthetic"] else "")),
        ("status", result.status),
    ]
    if results.is_evaluation:
        cells.append(("tables", str(result.finished)))
    else:
        cells.append(("folds", narrative.count_of_folds(settings)))
        cells.append(("repeats", str(len(settings["seeds"]))))
    if results.multi_label:
        labels = result.labels
        cells += [
            (f"threshold_{name}", six_decimals(labels.thresholds[index] if labels else math.nan))
            for index, name in enumerate(names)
        ]
        cells += _labels("", labels.out_of_fold if labels else None, names)
        if results.test_set_evaluated:
            cells += _labels("test_", labels.test if labels else None, names)
            cells += _labels("test_ensemble_", labels.test_ensemble if labels else None, names)
        return cells
    overall = list(_OVERALL)
    if results.class_order:
        cells.append((_CLASS_ORDER, order_in_words(results.class_order)))
        overall.append("kappa")
    cells += _classes("", result.out_of_fold, names, overall, additional)
    if results.test_set_evaluated:
        cells += _classes("test_", result.test, names, overall, additional)
        cells += _classes("test_ensemble_", result.test_ensemble, names, overall, additional)
    return cells + clinical_cells(result)


def _size(prefix: str, evaluation: Evaluation | LabelEvaluation | None) -> Cells:
    return [
        (f"{prefix}n", str(evaluation.n) if evaluation else ""),
        (f"{prefix}groups", str(evaluation.groups) if evaluation else ""),
    ]


def _classes(
    prefix: str,
    evaluation: Evaluation | None,
    class_names: Sequence[str],
    overall: Sequence[str],
    additional: Sequence[str],
) -> Cells:
    cells = _size(prefix, evaluation)
    for metric in overall:
        cells += estimate_cells(prefix + metric, getattr(evaluation, metric) if evaluation else None)
    for index, name in enumerate(class_names):
        of_class = evaluation.classes[index] if evaluation else None
        cells += estimate_cells(f"{prefix}recall_{name}", of_class.recall if of_class else None)
        cells.append((f"{prefix}n_{name}", str(of_class.n) if of_class else ""))
        cells += estimate_cells(f"{prefix}f1_{name}", of_class.f1 if of_class else None)
    for metric in additional:
        cells += estimate_cells(prefix + metric, evaluation.additional.get(metric) if evaluation else None)
    return cells


def _labels(prefix: str, evaluation: LabelEvaluation | None, class_names: Sequence[str]) -> Cells:
    cells = _size(prefix, evaluation)
    for metric in ("average_precision", "auroc"):
        cells += estimate_cells(prefix + metric, getattr(evaluation, metric) if evaluation else None)
    for index, name in enumerate(class_names):
        label = evaluation.labels[index] if evaluation else None
        cells += [
            (f"{prefix}positives_{name}", str(label.positives) if label else ""),
            (f"{prefix}negatives_{name}", str(label.negatives) if label else ""),
        ]
        for metric in ("average_precision", "auroc"):
            cells += estimate_cells(f"{prefix}{metric}_{name}", getattr(label, metric) if label else None)
    for suffix, decisions in (
        ("", evaluation.chosen if evaluation else None),
        ("_at_half", evaluation.plain if evaluation else None),
    ):
        for metric in OVER_LABELS:
            cells += estimate_cells(
                f"{prefix}{metric}{suffix}", getattr(decisions, metric) if decisions else None
            )
        for index, name in enumerate(class_names):
            decided = decisions.labels[index] if decisions else None
            for metric in OF_LABEL:
                cells += estimate_cells(
                    f"{prefix}{metric}{suffix}_{name}", getattr(decided, metric) if decided else None
                )
    return cells


def results_table(directory: Path) -> str:
    """The ranking as text for a terminal, from an existing results.csv: nothing is computed again.

    Raises:
        DataError: the directory holds no study, or no results yet, or they are damaged.
    """
    with _reading(directory):
        return _results_table(directory)


def _results_table(directory: Path) -> str:
    evaluation = is_evaluation(directory)
    settings = {} if evaluation else read_study_file(directory)
    evaluations = read_test_set_evaluations(directory)
    rows = _rows(directory)
    headline, title, second, score = _MULTI_LABEL if settings.get("multi_label") else _SINGLE_LABEL
    ranked = [_line(place, row, headline, second) for place, row in enumerate(rows, start=1)]
    lines = [["Rank", "Model" if evaluation else "Method", title, score, "n"], *ranked]
    if evaluations:
        lines[0] += ["Test: fold models, %", "ensemble, %", "n"]
        for line, row in zip(lines[1:], rows, strict=True):
            line += [_cell(row, f"test_{which}{headline}") for which in ("", "ensemble_")]
            line.append(row.get("test_n") or formatting.ABSENT)
    looks = [] if evaluation else read_test_set_looks(directory)
    state = (
        f"evaluated {formatting.times(len(evaluations))}" if evaluations else "held out (not yet evaluated)"
    ) + (f", and seen {formatting.times(len(looks))} by predictions" if looks else "")
    heading = f"In cross-validation, with 95 % intervals. Test set: {state}."
    text = ["On these images, with 95 % intervals." if evaluation else heading]
    text += align_columns(lines)
    text += _grades(rows)
    return "\n".join(text + ([narrative.SYNTHETIC] if settings.get("synthetic") else []))


def grades_used(directory: Path) -> list[str]:
    """A line about the order of ordinal classes in an existing results.csv, if they are ordinal.

    Raises:
        DataError: there are no results yet, or they are damaged.
    """
    with _reading(directory):
        return _grades(_rows(directory))


def results_frame(directory: Path) -> pd.DataFrame:
    """The content of an existing results.csv, one row per method.

    Raises:
        DataError: there are no results yet, or they are damaged.
    """
    import pandas as pd

    with _reading(directory):
        # The engine in Python reads each number as it was written.
        frame = pd.read_csv(regular(directory / RESULTS_CSV), dtype={"method": str}, engine="python")
        if frame["method"].isna().any():
            raise ValueError("a row has no method")
        return frame


def _rows(directory: Path) -> list[dict[str, str]]:
    with regular(directory / RESULTS_CSV).open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ValueError("it has no row, or rows of different numbers of columns")
    return rows


@contextmanager
def _reading(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(
            f"expected {RESULTS_CSV} in {directory}, but it cannot be read ({error}); make it with tametail report"
        ) from error


def _grades(rows: Sequence[Mapping[str, str]]) -> list[str]:
    order = next((row[_CLASS_ORDER] for row in rows if row.get(_CLASS_ORDER)), "")
    return [order_sentence(order)] if order else []


def _line(place: int, row: Mapping[str, str], headline: str, second: str) -> list[str]:
    if row["status"] != "complete":
        return [formatting.ABSENT, row["method"], row["status"], formatting.ABSENT, formatting.ABSENT]
    score = formatting.score(float(row[second] or math.nan))
    return [str(place), row["method"], _cell(row, headline), score, row["n"]]


def _cell(row: Mapping[str, str], column: str) -> str:
    value, low, high = (float(row.get(column + suffix) or math.nan) for suffix in ("", "_low", "_high"))
    return formatting.percent_with_interval(Estimate(value, low, high, 0))
