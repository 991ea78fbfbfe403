"""Metrics with honest intervals, from tables of predictions alone. Never imports torch."""

from __future__ import annotations

from tametail.evaluation.class_groups import ClassGroup
from tametail.evaluation.evaluate import ClassResult, Evaluation, evaluate
from tametail.evaluation.proportions import Estimate

__all__ = ["ClassGroup", "ClassResult", "Estimate", "Evaluation", "evaluate"]
