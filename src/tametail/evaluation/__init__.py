"""Metrics with confidence intervals and paired tests, computed from tables of predictions. Never imports torch."""

from __future__ import annotations

from tametail.evaluation.class_groups import ClassGroup
from tametail.evaluation.evaluate import ClassResult, Evaluation, evaluate
from tametail.evaluation.metric_registry import METRICS, ConfusionMetric, Metric, register_metric
from tametail.evaluation.proportions import Estimate

__all__ = [
    "METRICS",
    "ClassGroup",
    "ClassResult",
    "ConfusionMetric",
    "Estimate",
    "Evaluation",
    "Metric",
    "evaluate",
    "register_metric",
]
