"""Tables, figures and one HTML page from a study directory, and from nothing else. Never imports torch."""

from __future__ import annotations

from tametail.report.partial import unfinished
from tametail.report.reading import read_results
from tametail.report.runs import best_loss
from tametail.report.study_results import LossResults, PartCounts, StudyResults
from tametail.report.tables import results_table
from tametail.report.writing import write_report

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
