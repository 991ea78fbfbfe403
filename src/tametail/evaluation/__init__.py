"""Metrics with confidence intervals and paired tests, computed from tables of predictions. Never imports torch."""

from __future__ import annotations

from tametail.evaluation.evaluate import ClassSize, Evaluation, evaluate, evaluate_labels
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.metric_registry import METRICS, ConfusionMetric, Metric, register_metric

__all__ = [
    "METRICS",
    "ClassSize",
    "ConfusionMetric",
    "Estimate",
    "Evaluation",
    "Metric",
    "evaluate",
    "evaluate_labels",
    "register_metric",
]
