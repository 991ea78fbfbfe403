"""All numbers of all methods as one tidy frame: what every file and table of results is made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tametail.evaluation import Estimate
from tametail.evaluation.calibration import Calibration
from tametail.evaluation.conformal import PredictionSets
from tametail.evaluation.label_calibration import LabelCalibration
from tametail.evaluation.metric_registry import metric_facts
from tametail.report.study.results import MethodResults, StudyResults

OUT_OF_FOLD, TEST, TEST_ENSEMBLE = "out_of_fold", "test", "test_ensemble"
_NAN = float("nan")


@dataclass(frozen=True)
class ResultRow:
    """One number.

    Attributes:
        method: the method.
        set: ``out_of_fold``, ``test`` (mean over the fold models) or ``test_ensemble``; for subgroups ``by_<column>_<value>``.
        class_name: the class; empty for all classes.
        metric: its name in the registry, or of probabilities, such as ``log_loss``, or of an operating point.
        estimate: value, limits (nan without an interval) and number of images.
        interval_kind: how the interval was computed; empty without one.
    """

    method: str
    set: str
    class_name: str
    metric: str
    estimate: Estimate
    interval_kind: str


def result_rows(results: StudyResults) -> Iterator[ResultRow]:
    """The rows of all finished methods, in the order of their rank."""
    for result in results.ranking:
        yield from _of_method(result)


def _of_method(result: MethodResults) -> Iterator[ResultRow]:
    sets = ((OUT_OF_FOLD, result.out_of_fold), (TEST, result.test), (TEST_ENSEMBLE, result.test_ensemble))
    for name, evaluation in sets:
        for metric, of_class, estimate in evaluation or ():
            yield ResultRow(result.method, name, of_class, metric.name, estimate, metric.interval_kind)
        if name == OUT_OF_FOLD and result.calibration is not None and result.out_of_fold is not None:
            yield from _of_probabilities(result.method, result.calibration, result.out_of_fold.n)
        if name == OUT_OF_FOLD and result.label_calibration is not None:
            yield from _of_label_probabilities(result.method, result.label_calibration)
    if result.prediction_sets is not None:
        yield from _of_sets(result.method, result.prediction_sets)
    for point in result.operating:
        for name in ("sensitivity", "specificity", "ppv", "alert_rate"):
            name_at = f"{name}_at_{point.required_sensitivity:g}"
            yield ResultRow(
                result.method, OUT_OF_FOLD, point.class_name, name_at, getattr(point, name), "Wilson"
            )
    for one in result.subgroups:
        where = f"by_{one.column}_{one.value or 'unknown'}"
        for name, estimate in one.estimates.items():
            kind = metric_facts(name).interval_kind
            yield ResultRow(result.method, where, "", name, estimate, kind)
    for found in result.contrasts:
        for contrast in found.contrasts:
            where = f"by_{found.column}_{contrast.value or 'unknown'}"
            yield ResultRow(result.method, where, "", "difference_to_others", contrast.difference, "MOVER")
        if found.gap is not None:
            yield ResultRow(
                result.method,
                f"by_{found.column}",
                "",
                "worst_group_gap",
                found.gap.gap,
                "MOVER and Bonferroni",
            )
    if result.decision is not None:
        for at in result.decision.points:
            yield ResultRow(
                result.method,
                OUT_OF_FOLD,
                result.decision.class_name,
                f"net_benefit_at_{at.threshold:g}",
                at.model,
                "MOVER",
            )


def _of_sets(method: str, found: PredictionSets) -> Iterator[ResultRow]:
    """Prediction sets of all images, and of those of each class."""
    every = [("", found.coverage, found.size), *((one.name, one.coverage, one.size) for one in found.classes)]
    at = f"at_{found.required:g}"
    for name, coverage, size in every:
        yield ResultRow(method, OUT_OF_FOLD, name, f"set_coverage_{at}", coverage, "Wilson")
        yield ResultRow(method, OUT_OF_FOLD, name, f"set_size_{at}", size, "t by groups")


def _of_label_probabilities(method: str, found: LabelCalibration) -> Iterator[ResultRow]:
    """Of the calibrated probabilities, over all labels and of each."""
    yield ResultRow(method, OUT_OF_FOLD, "", "ece", found.ece_after, "basic group bootstrap")
    for label, quality in found.after.items():
        for name, value in asdict(quality).items():
            estimate = Estimate(value, _NAN, _NAN, found.ece_after.n)
            yield ResultRow(method, OUT_OF_FOLD, label, name, estimate, "")


def _of_probabilities(method: str, calibration: Calibration, n: int) -> Iterator[ResultRow]:
    """Of the probabilities in use: calibrated ones where there is a map."""
    found = calibration.after or calibration
    yield ResultRow(method, OUT_OF_FOLD, "", "brier", found.brier, "t by groups")
    for name in ("log_loss", "uniform_log_loss", "ece", "class_wise_ece", "intercept", "slope"):
        value = float(getattr(found, name))
        yield ResultRow(method, OUT_OF_FOLD, "", name, Estimate(value, _NAN, _NAN, n), "")
