"""What people read: report.html, results.csv and results.md, made from a study's folder alone. Never imports torch."""

from __future__ import annotations

from tametail.report.study_results import StudyResults, best_loss, read_results
from tametail.report.writing import results_table, write_report

__all__ = ["StudyResults", "best_loss", "read_results", "results_table", "write_report"]
