"""Metrics with honest intervals, from tables of predictions alone. Never imports torch."""

from __future__ import annotations

from tametail.evaluation.evaluate import ClassResult, Estimate, Evaluation, evaluate

__all__ = ["ClassResult", "Estimate", "Evaluation", "evaluate"]
