"""Metrics with honest intervals, from tables of predictions alone. Never imports torch."""

from __future__ import annotations

from tametail.evaluation.bands import Band
from tametail.evaluation.evaluate import ClassResult, Evaluation, evaluate
from tametail.evaluation.shares import Estimate

__all__ = ["Band", "ClassResult", "Estimate", "Evaluation", "evaluate"]
