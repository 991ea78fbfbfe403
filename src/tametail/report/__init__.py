"""Tables, figures and an HTML page from the folder of a study. Never imports torch."""

from __future__ import annotations

from tametail.report.sections import REPORT_SECTIONS, ReportSection, register_report_section, unavailable
from tametail.report.study.convergence import unconverged
from tametail.report.study.partial import unfinished
from tametail.report.study.reading import read_results
from tametail.report.study.results import MethodResults, SetCounts, StudyResults
from tametail.report.study.runs import best_method
from tametail.report.study.write import write_report
from tametail.report.writers.csv import grades_used, results_frame, results_table

__all__ = [
    "REPORT_SECTIONS",
    "MethodResults",
    "ReportSection",
    "SetCounts",
    "StudyResults",
    "best_method",
    "grades_used",
    "read_results",
    "register_report_section",
    "results_frame",
    "results_table",
    "unavailable",
    "unconverged",
    "unfinished",
    "write_report",
]
