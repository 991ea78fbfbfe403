"""Metrics of a set of images as named objects: the built-in ones, and those that other packages register.

Shape legend: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from tametail.core.arrays import FloatArray
from tametail.core.registry import Registry
from tametail.evaluation import metrics
from tametail.evaluation.bootstrap import percentile_limits, resampled_groups
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions

Interval = Literal["bootstrap"] | Callable[[Sample], Estimate]


class Metric(Protocol):
    """One number that says how good predictions are. Register an object of this kind with `register_metric`.

    Attributes:
        name: an identifier, as in options and file columns.
        title: as reports show it.
        low, high: the range of the metric.
        greater_is_better: the direction.
        ordinal: optional; whether it is for ordinal classes only. It then takes predictions whose classes are in their
            order, the lowest grade first.
        interval: ``"bootstrap"``, the percentile bootstrap over groups (patients); or a function of a `Sample` that
            returns the estimate with its limits.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def greater_is_better(self) -> bool: ...
    @property
    def interval(self) -> Interval: ...

    def value(self, predictions: Predictions, sample_weight: FloatArray | None = None) -> float:
        """Compute the metric.

        Args:
            predictions: N images.
            sample_weight: (N,) how often each image counts, as in scikit-learn; None for once each.

        Returns:
            nan where the metric is undefined.
        """


METRICS: Registry[Metric] = Registry("metrics")
register_metric = METRICS.register


@dataclass(frozen=True)
class ConfusionMetric:
    """A metric that is a function of the confusion matrix.

    Attributes:
        function: maps confusion matrices (..., C, C), true classes in the rows, to values (...).
        ordinal: whether it is defined for ordinal classes only; the matrices are then in their order.
        name, title, low, high, greater_is_better, interval: see `Metric`.
    """

    name: str
    title: str
    function: Callable[[FloatArray], FloatArray]
    low: float = 0.0
    high: float = 1.0
    greater_is_better: bool = True
    interval: Interval = "bootstrap"
    ordinal: bool = False

    def value(self, predictions: Predictions, sample_weight: FloatArray | None = None) -> float:
        """Compute the metric of one table of predictions."""
        classes = len(predictions.class_names)
        cells = predictions.target * classes + predictions.predicted
        counts = np.bincount(cells, sample_weight, classes * classes).reshape(classes, classes)
        return float(self.function(counts.astype(np.float64)))


def estimate_metric(metric: Metric, sample: Sample) -> Estimate:
    """Estimate a metric with its 95 % interval: the mean over the replicates where it is defined."""
    if metric.interval != "bootstrap":
        return metric.interval(sample)
    value = _mean_value(metric, sample, None)
    drawn = [
        _mean_value(metric, sample, times[sample.group])
        for times in resampled_groups(sample.strata, sample.resamples, sample.seed)
    ]
    low, high = percentile_limits(np.array(drawn))
    n = len(sample) if np.isfinite(value) else 0
    return Estimate(value, float(np.fmin(low, value)), float(np.fmax(high, value)), n)


def _mean_value(metric: Metric, sample: Sample, weight: FloatArray | None) -> float:
    tables = sample.ordinal_tables if getattr(metric, "ordinal", False) else sample.tables
    values = np.array([metric.value(table, weight) for table in tables])
    return float(metrics.mean_over(values, np.isfinite(values)))


for _metric in (
    ConfusionMetric(
        "balanced_accuracy",
        "Balanced accuracy",
        metrics.balanced_accuracy,
        interval=lambda sample: sample.balanced_accuracy,
    ),
    ConfusionMetric("macro_f1", "Macro-F1", metrics.macro_f1, interval=lambda sample: sample.macro_f1),
    ConfusionMetric("accuracy", "Accuracy", metrics.accuracy, interval=lambda sample: sample.accuracy),
    ConfusionMetric("mcc", "MCC", metrics.mcc, low=-1.0, interval=lambda sample: sample.mcc),
    ConfusionMetric(
        "kappa",
        "Quadratic weighted kappa",
        metrics.quadratic_kappa,
        low=-1.0,
        interval=lambda sample: sample.kappa,
        ordinal=True,
    ),
):
    register_metric(_metric)
