"""Tables, figures and one HTML page from a study directory, and from nothing else. Never imports torch."""

from __future__ import annotations

from tametail.report.study.partial import unfinished
from tametail.report.study.reading import read_results
from tametail.report.study.results import LossResults, PartCounts, StudyResults
from tametail.report.study.runs import best_loss
from tametail.report.study.write import write_report
from tametail.report.writers.csv import results_table

__all__ = [
    "LossResults",
    "PartCounts",
    "StudyResults",
    "best_loss",
    "read_results",
    "results_table",
    "unfinished",
    "write_report",
]
