"""results.csv, one row per method, results_long.csv, one row per number, and the short form for the terminal.

They contain no time, path or date; the same results give the same bytes.
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
from tametail.evaluation import Estimate
from tametail.evaluation.class_order import order_in_words, order_sentence
from tametail.evaluation.evaluate import headline
from tametail.evaluation.metric_registry import metric_facts
from tametail.predictions.by_group import IN_WORDS
from tametail.report import formatting
from tametail.report.options import load_options
from tametail.report.study import narrative
from tametail.report.study.result_rows import OUT_OF_FOLD, result_rows
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.writers.csv_cells import Cells, csv_text, estimate_cells, six_decimals
from tametail.storage.evaluation_file import is_evaluation, read_evaluation_file
from tametail.storage.study_file import read_study_file, read_test_set_evaluations, read_test_set_looks

if TYPE_CHECKING:
    import pandas as pd

RESULTS_CSV, RESULTS_LONG_CSV = "results.csv", "results_long.csv"
_CLASS_ORDER = "class_order"


def results_long_csv(results: StudyResults) -> str:
    """One row per number: method, set, class (empty for all), metric, value, low, high, n and kind of interval."""
    return csv_text(
        [
            [
                ("method", row.method),
                ("set", row.set),
                ("class", row.class_name),
                ("metric", row.metric),
                *zip(
                    ("value", "low", "high"),
                    map(six_decimals, (row.estimate.value, row.estimate.low, row.estimate.high)),
                    strict=True,
                ),
                ("n", str(row.estimate.n)),
                ("interval", row.interval_kind),
            ]
            for row in result_rows(results)
        ]
    )


def results_csv(results: StudyResults) -> str:
    """One row per method as CSV text, in the order of `StudyResults.methods`.

    Proportions have six decimals; undefined and unfinished values are empty. The columns are those of results_long.csv:
    ``<metric>`` or ``<metric>_<class>`` with ``_low`` and ``_high``, after the name of the set, but for out-of-fold predictions.
    For a multi-label study, ``threshold_<label>`` is for new images.
    """
    rows = list(result_rows(results))
    columns = list(dict.fromkeys((row.set, row.metric, row.class_name) for row in rows))
    found = {(row.method, row.set, row.metric, row.class_name): row.estimate for row in rows}
    lines = []
    for result in results.methods:
        cells = _about(result, results)
        for set_name, metric, class_name in columns:
            prefix = "" if set_name == OUT_OF_FOLD else f"{set_name}_"
            name = f"{prefix}{metric}" + (f"_{class_name}" if class_name else "")
            cells += estimate_cells(name, found.get((result.method, set_name, metric, class_name)))
        lines.append(cells)
    return csv_text(lines)


def _about(result: MethodResults, results: StudyResults) -> Cells:
    names, settings = results.class_names, results.settings
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
    if results.class_order:
        cells.append((_CLASS_ORDER, order_in_words(results.class_order)))
    if results.multi_label:
        thresholds = result.thresholds or [math.nan] * len(names)
        cells += [
            (f"threshold_{name}", six_decimals(value)) for name, value in zip(names, thresholds, strict=True)
        ]
    for prefix, evaluation in (("", result.out_of_fold), ("test_", result.test)):
        if not prefix or results.test_set_evaluated:
            cells.append((f"{prefix}n", str(evaluation.n) if evaluation else ""))
            cells.append((f"{prefix}groups", str(evaluation.groups) if evaluation else ""))
            for index, name in enumerate(names):
                n = str(evaluation.classes[index].n) if evaluation else ""
                cells.append((f"{prefix}n_{name}", n))
    for point in result.operating:
        threshold = six_decimals(point.threshold)
        cells.append((f"threshold_{point.class_name}_{point.required_sensitivity:g}", threshold))
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
    settings = _settings_of_evaluation(directory) if evaluation else read_study_file(directory)
    evaluations = read_test_set_evaluations(directory)
    rows = _rows(directory)
    multi_label = bool(settings.get("multi_label"))
    score, second = headline(multi_label=multi_label), "macro_auroc" if multi_label else "macro_f1"
    ranked = [_line(place, row, score, second) for place, row in enumerate(rows, start=1)]
    titles = [metric_facts(score).heading, metric_facts(second).heading]
    lines = [["Rank", "Model" if evaluation else "Method", *titles, "n"], *ranked]
    if evaluations:
        lines[0] += ["Test: fold models, %", "ensemble, %", "n"]
        for line, row in zip(lines[1:], rows, strict=True):
            line += [_cell(row, f"{which}_{score}") for which in ("test", "test_ensemble")]
            line.append(row.get("test_n") or formatting.ABSENT)
    looks = [] if evaluation else read_test_set_looks(directory)
    state = (
        f"evaluated {formatting.times(len(evaluations))}" if evaluations else "held out (not yet evaluated)"
    ) + (f", and seen {formatting.times(len(looks))} by predictions" if looks else "")
    by = "image" if evaluation else load_options(directory).predict_by
    rows_are = "" if by == "image" else f", n groups of images ({IN_WORDS[by]})"
    heading = f"In cross-validation, with 95 % intervals{rows_are}. Test set: {state}."
    text = ["On these images, with 95 % intervals." if evaluation else heading]
    text += align_columns(lines)
    text += _grades(rows)
    return "\n".join(text + ([narrative.SYNTHETIC] if settings.get("synthetic") else []))


def _settings_of_evaluation(directory: Path) -> dict[str, bool]:
    return {"multi_label": read_evaluation_file(directory).multi_label}


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


def _line(place: int, row: Mapping[str, str], score: str, second: str) -> list[str]:
    if row["status"] != "complete":
        return [formatting.ABSENT, row["method"], row["status"], formatting.ABSENT, formatting.ABSENT]
    value = float(row[second] or math.nan)
    also = formatting.percent(value) if metric_facts(second).percent else formatting.score(value)
    return [str(place), row["method"], _cell(row, score), also, row["n"]]


def _cell(row: Mapping[str, str], column: str) -> str:
    value, low, high = (float(row.get(column + suffix) or math.nan) for suffix in ("", "_low", "_high"))
    return formatting.percent_with_interval(Estimate(value, low, high, 0))
