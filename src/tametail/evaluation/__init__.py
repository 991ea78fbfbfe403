"""Metrics with honest intervals, from tables of predictions alone. Never imports torch."""

from __future__ import annotations

from tametail.evaluation.class_groups import Band
from tametail.evaluation.evaluate import ClassResult, Evaluation, evaluate
from tametail.evaluation.proportions import Estimate

__all__ = ["Band", "ClassResult", "Estimate", "Evaluation", "evaluate"]
