"""Metrics of a set of images as named objects: the built-in ones, and those that other packages register.

Every table, file and page shows the metrics of this registry, in its order.
Shape legend: N images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, Protocol

import numpy as np

from tametail.core.arrays import FloatArray
from tametail.core.registry import Registry
from tametail.data.class_groups import CLASS_GROUPS, ClassGroupName
from tametail.evaluation import metrics
from tametail.evaluation.bootstrap import percentile_limits, resampled_groups
from tametail.evaluation.intervals import Estimate, Proportions
from tametail.evaluation.label_sample import LabelSample
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions

Interval = Literal["bootstrap"] | Callable[[Any], Estimate]
AnySample = Sample | LabelSample


class Metric(Protocol):
    """One number that says how good predictions are. Register an object of this kind with `register_metric`.

    Attributes:
        name: an identifier, as in options and file columns.
        title: as reports show it.
        low, high: the range of the metric.
        greater_is_better: the direction.
        interval: ``"bootstrap"``, the percentile bootstrap over groups (patients); or a function of a `Sample` that
            returns the estimate with its limits.
        ordinal: optional; whether it is for ordinal classes only. It then takes predictions whose classes are in their
            order, the lowest grade first.
        interval_kind: optional; what kind of interval the function returns, as in ``results_long.csv``.
        percent: optional; whether reports show it in %.
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


@dataclass(frozen=True)
class ConfusionMetric:
    """A metric that is a function of the confusion matrix; searches can maximise it.

    Attributes:
        function: maps confusion matrices (..., C, C), true classes in the rows, to values (...).
        ordinal: whether it is defined for ordinal classes only; the matrices are then in their order.
        in_print: whether the narrow tables for print show it.
        multi_label: whether ``interval`` also takes a `LabelSample`.
        name, title, low, high, greater_is_better, interval, interval_kind, percent: see `Metric`.
    """

    name: str
    title: str
    function: Callable[[FloatArray], FloatArray]
    low: float = 0.0
    high: float = 1.0
    greater_is_better: bool = True
    interval: Interval = "bootstrap"
    ordinal: bool = False
    interval_kind: str = ""
    percent: bool = False
    in_print: bool = True
    multi_label: bool = False

    def value(self, predictions: Predictions, sample_weight: FloatArray | None = None) -> float:
        """Compute the metric of one table of predictions."""
        classes = len(predictions.class_names)
        cells = predictions.target * classes + predictions.predicted
        counts = np.bincount(cells, sample_weight, classes * classes).reshape(classes, classes)
        return float(self.function(counts.astype(np.float64)))


@dataclass(frozen=True)
class SampleMetric:
    """A built-in metric that a sample computes from what its metrics share, with its interval.

    Attributes:
        of: maps a sample to an estimate, to one for each class, or to None where the metric is not defined.
        single_label, multi_label: for which data it is.
        by_class: whether it is one number for each class.
        in_print: whether the narrow tables for print show it.
        name, title, interval_kind, percent, low, high, greater_is_better: see `Metric`.
    """

    name: str
    title: str
    of: Callable[[Any], Estimate | Proportions | None]
    interval_kind: str
    percent: bool = True
    single_label: bool = True
    multi_label: bool = True
    by_class: bool = False
    in_print: bool = False
    low: float = 0.0
    high: float = 1.0
    greater_is_better: bool = True


AnyMetric = Metric | SampleMetric
METRICS: Registry[AnyMetric] = Registry("metrics")
register_metric = METRICS.register


@dataclass(frozen=True)
class MetricFacts:
    """What is to be known of a metric to show it.

    Attributes:
        name, title, low, high, greater_is_better, percent, interval_kind: see `Metric`.
        by_class, in_print: see `SampleMetric`.
    """

    name: str
    title: str
    low: float
    high: float
    greater_is_better: bool
    percent: bool
    interval_kind: str
    by_class: bool
    in_print: bool

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title}, %" if self.percent else self.title


def metric_facts(name: str) -> MetricFacts:
    """Look up a registered metric by name.

    Raises:
        LookupError: there is no such metric.
    """
    metric = METRICS.get(name)
    drawn = getattr(metric, "interval", None) == "bootstrap"
    return MetricFacts(
        metric.name,
        metric.title,
        metric.low,
        metric.high,
        metric.greater_is_better,
        getattr(metric, "percent", False),
        getattr(metric, "interval_kind", "") or ("group bootstrap" if drawn else "of the metric"),
        getattr(metric, "by_class", False),
        getattr(metric, "in_print", True),
    )


def estimate_metrics(sample: AnySample) -> dict[tuple[str, str], Estimate]:
    """Estimate all metrics that are defined for a sample, by name and class, or ``""`` for all classes."""
    found: dict[tuple[str, str], Estimate] = {}
    for metric in METRICS:
        of = _estimate(metric, sample)
        if isinstance(of, Proportions):
            found |= {(metric.name, name): of.estimate(c) for c, name in enumerate(sample.class_names)}
        elif of is not None:
            found[metric.name, ""] = of
    return found


def _estimate(metric: AnyMetric, sample: AnySample) -> Estimate | Proportions | None:
    if isinstance(metric, SampleMetric):
        defined = metric.multi_label if isinstance(sample, LabelSample) else metric.single_label
        return metric.of(sample) if defined else None
    if isinstance(sample, LabelSample):
        interval = metric.interval if isinstance(metric, ConfusionMetric) and metric.multi_label else None
        return interval(sample) if callable(interval) else None
    if getattr(metric, "ordinal", False) and sample.class_order is None:
        return None
    return estimate_metric(metric, sample)


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


MOVER, WILSON, DELONG = "MOVER", "Wilson", "DeLong"


def _over_labels(name: str, title: str, path: str, kind: str, **facts: Any) -> SampleMetric:
    """A metric over all labels, for several labels per image only."""
    return SampleMetric(name, title, attrgetter(path), kind, single_label=False, **facts)


def _by_class(name: str, title: str, kind: str, **facts: Any) -> SampleMetric:
    """A metric of one class or label against all others."""
    return SampleMetric(name, title, attrgetter(name), kind, by_class=True, **facts)


def _at_half(name: str, title: str, **facts: Any) -> SampleMetric:
    """A metric of one label at a threshold of 0.5."""
    of = attrgetter(f"plain.{name}")
    return SampleMetric(
        f"{name}_at_half", f"{title} at 0.5", of, WILSON, single_label=False, by_class=True, **facts
    )


def _of_group(name: str, title: str, group: ClassGroupName, **facts: Any) -> SampleMetric:
    """The mean of a metric over the many-, medium- or few-shot classes."""

    def of(sample: AnySample) -> Estimate | None:
        return sample.class_group_mean(getattr(sample, name), group)

    title = f"{group.capitalize()}-shot {title}"
    return SampleMetric(f"{name}_{group}", title, of, MOVER, **facts)


# In the order of all tables; the first that is defined ranks the methods.
for _metric in (
    ConfusionMetric(
        "balanced_accuracy",
        "Balanced accuracy",
        metrics.balanced_accuracy,
        interval=lambda sample: sample.balanced_accuracy,
        interval_kind="MOVER and Price-Bonett",
        percent=True,
    ),
    _over_labels("mean_average_precision", "Mean AP", "mean_average_precision", MOVER, in_print=True),
    _over_labels("macro_auroc", "Macro AUROC", "macro_auroc", MOVER, in_print=True),
    ConfusionMetric(
        "macro_f1",
        "Macro-F1",
        metrics.macro_f1,
        interval=lambda sample: sample.macro_f1,
        interval_kind="MOVER and group bootstrap",
        multi_label=True,
    ),
    ConfusionMetric(
        "mcc",
        "MCC",
        metrics.mcc,
        low=-1.0,
        interval=lambda sample: sample.mcc,
        interval_kind="Wilson and group bootstrap",
        in_print=False,
    ),
    ConfusionMetric(
        "kappa",
        "Quadratic weighted kappa",
        metrics.quadratic_kappa,
        low=-1.0,
        interval=lambda sample: sample.kappa,
        interval_kind="gamma and group bootstrap",
        ordinal=True,
    ),
    ConfusionMetric(
        "mean_absolute_error",
        "Mean absolute error, grades",
        metrics.mean_absolute_error,
        high=math.inf,
        greater_is_better=False,
        interval=lambda sample: sample.mean_absolute_error,
        interval_kind="gamma and group bootstrap",
        ordinal=True,
    ),
    ConfusionMetric(
        "off_by_one_accuracy",
        "Off-by-one accuracy",
        metrics.off_by_one_accuracy,
        interval=lambda sample: sample.off_by_one_accuracy,
        interval_kind=WILSON,
        ordinal=True,
        percent=True,
        in_print=False,
    ),
    ConfusionMetric(
        "accuracy",
        "Accuracy",
        metrics.accuracy,
        interval=lambda sample: sample.accuracy,
        interval_kind=WILSON,
        percent=True,
    ),
    _over_labels("micro_f1", "Micro-F1", "chosen.micro_f1", WILSON, percent=False),
    _over_labels("subset_accuracy", "Subset accuracy", "chosen.subset_accuracy", WILSON),
    _over_labels("hamming_loss", "Hamming loss", "chosen.hamming_loss", WILSON, greater_is_better=False),
    _over_labels("macro_f1_at_half", "Macro-F1 at 0.5", "plain.macro_f1", MOVER, percent=False),
    _over_labels("micro_f1_at_half", "Micro-F1 at 0.5", "plain.micro_f1", WILSON, percent=False),
    _over_labels("subset_accuracy_at_half", "Subset accuracy at 0.5", "plain.subset_accuracy", WILSON),
    _over_labels(
        "hamming_loss_at_half", "Hamming loss at 0.5", "plain.hamming_loss", WILSON, greater_is_better=False
    ),
    *(
        _of_group("average_precision", "mean AP", group, in_print=group == "few", single_label=False)
        for group in CLASS_GROUPS
    ),
    *(_of_group("auroc", "mean AUROC", group, in_print=False, single_label=False) for group in CLASS_GROUPS),
    *(
        _of_group("recall", "recall", group, in_print=group == "few", multi_label=False)
        for group in CLASS_GROUPS
    ),
    *(_of_group("f1", "F1", group, percent=False, multi_label=False) for group in CLASS_GROUPS),
    _by_class("recall", "Recall", WILSON),
    _by_class("precision", "Precision", WILSON),
    _by_class("npv", "NPV", WILSON),
    _by_class("f1", "F1", WILSON, percent=False),
    _by_class("specificity", "Specificity", WILSON),
    _by_class("average_precision", "AP", WILSON),
    _by_class("auroc", "AUROC", DELONG),
    _at_half("recall", "Recall"),
    _at_half("precision", "Precision"),
    _at_half("npv", "NPV"),
    _at_half("f1", "F1", percent=False),
    _at_half("specificity", "Specificity"),
):
    METRICS.register(_metric)
