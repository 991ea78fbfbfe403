"""Tables, figures and one HTML page from a study directory, and from nothing else. Never imports torch."""

from __future__ import annotations

from tametail.report.study.partial import unfinished
from tametail.report.study.reading import read_results
from tametail.report.study.results import MethodResults, SetCounts, StudyResults
from tametail.report.study.runs import best_method
from tametail.report.study.write import write_report
from tametail.report.writers.csv import results_table

__all__ = [
    "MethodResults",
    "SetCounts",
    "StudyResults",
    "best_method",
    "read_results",
    "results_table",
    "unfinished",
    "write_report",
]
