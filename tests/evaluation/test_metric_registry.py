"""Metrics of other packages: registered under a name, evaluated beside the built-in ones with an interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn import metrics as sk

from tametail.core.arrays import FloatArray
from tametail.evaluation import (
    METRICS,
    ConfusionMetric,
    Estimate,
    Evaluation,
    evaluate,
    evaluate_labels,
    register_metric,
)
from tametail.evaluation.metric_registry import Interval, SampleMetric, metric_facts
from tametail.evaluation.sample import Sample
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions

ORDINAL = ["kappa", "mean_absolute_error", "off_by_one_accuracy"]
BUILT_IN = ["balanced_accuracy", "macro_f1", "mcc", *ORDINAL, "accuracy"]


@dataclass(frozen=True)
class TopTwo:
    """Proportion of images whose class is among the two most probable ones: a toy metric of another package."""

    name: str = "top_2"
    title: str = "Top-2 accuracy"
    low: float = 0.0
    high: float = 1.0
    greater_is_better: bool = True
    interval: Interval = "bootstrap"

    def value(self, predictions: Predictions, sample_weight: FloatArray | None = None) -> float:
        hits = (predictions.logits.argsort(axis=1)[:, -2:] == predictions.target[:, None]).any(axis=1)
        return float(np.average(hits, weights=sample_weight))


@pytest.fixture
def registered() -> Iterator[None]:
    before = METRICS.names()
    yield
    for name in set(METRICS.names()) - set(before):
        METRICS.unregister(name)


def tables(replicates: int = 2, images: int = 200, groups: int = 50) -> list[Predictions]:
    rng = np.random.default_rng(0)
    target, group = rng.integers(0, 4, images), rng.integers(0, groups, images).astype(np.str_)
    image, fold = np.array([f"{i:04}" for i in range(images)]), np.zeros(images, dtype=np.int64)
    names = ("a", "b", "c", "d")
    scores = rng.normal(size=(replicates, images, 4)) + 1.5 * np.eye(4)[target]
    return [Predictions(image, group, target, fold, z.astype(np.float32), names, "softmax") for z in scores]


def of_other_packages(found: Evaluation) -> dict[str, Estimate]:
    """By name, the estimates over all classes of metrics that are not built in."""
    return {metric.name: estimate for metric, estimate in found.overall() if metric.name not in BUILT_IN}


def test_built_in_metrics_are_those_of_scikit_learn() -> None:
    assert [one.name for one in METRICS if isinstance(one, ConfusionMetric)] == BUILT_IN
    (table,) = tables(1)
    reference = {
        "balanced_accuracy": sk.balanced_accuracy_score,
        "macro_f1": lambda t, p, **more: sk.f1_score(t, p, average="macro", **more),
        "accuracy": sk.accuracy_score,
        "mcc": sk.matthews_corrcoef,
        "kappa": lambda t, p, **more: sk.cohen_kappa_score(t, p, weights="quadratic", **more),
        "mean_absolute_error": sk.mean_absolute_error,
        "off_by_one_accuracy": lambda t, p, **more: sk.accuracy_score(abs(t - p) <= 1, t == t, **more),
    }
    weight = np.random.default_rng(1).integers(0, 4, len(table)).astype(np.float64)
    found = evaluate([table], class_order=table.class_names, resamples=20)
    for name in BUILT_IN:
        metric = METRICS.get(name)
        assert isinstance(metric, ConfusionMetric)
        assert metric.value(table) == pytest.approx(reference[name](table.target, table.predicted))
        weighted = reference[name](table.target, table.predicted, sample_weight=weight)
        assert metric.value(table, weight) == pytest.approx(weighted)
        assert found[name].value == pytest.approx(metric.value(table))
        assert metric.low <= found[name].low <= found[name].high <= metric.high
    assert [metric.name for metric, _ in found.overall()] == BUILT_IN


def test_a_metric_of_another_package_is_evaluated_with_an_interval_over_groups(registered: None) -> None:
    register_metric(TopTwo())
    replicates = tables()
    found = evaluate(replicates, resamples=200)["top_2"]
    assert found.value == pytest.approx(np.mean([TopTwo().value(table) for table in replicates]))
    assert found.n == 200
    assert found.low < found.value < found.high
    assert of_other_packages(evaluate(replicates, resamples=200)) == {"top_2": found}
    alone = [
        Predictions(
            *(getattr(t, f) for f in ("image", "image", "target", "fold", "logits", "class_names", "link"))
        )
        for t in replicates
    ]
    standard_error = np.sqrt(found.value * (1 - found.value) / 200)
    wide = evaluate(alone, resamples=400)["top_2"]
    assert (wide.high - wide.low) == pytest.approx(3.92 * standard_error, rel=0.5)


def test_the_bootstrap_of_a_registered_metric_agrees_with_that_of_macro_f1(registered: None) -> None:
    register_metric(ConfusionMetric("mean_f1", "Mean F1", METRICS.get("macro_f1").function))  # type: ignore[attr-defined]
    found = evaluate(tables(1), resamples=1000)
    assert found["mean_f1"].value == pytest.approx(found["macro_f1"].value)
    assert found["mean_f1"].low == pytest.approx(found["macro_f1"].low, abs=0.02)
    assert found["mean_f1"].high == pytest.approx(found["macro_f1"].high, abs=0.02)


def test_an_interval_of_its_own_and_a_metric_for_ordinal_classes(registered: None) -> None:
    def interval(sample: Sample) -> Estimate:
        return Estimate(0.5, 0.25, 0.75, len(sample))

    register_metric(TopTwo(name="own", interval=interval))
    register_metric(ConfusionMetric("ordinal", "Ordinal", np.linalg.det, ordinal=True))
    found = evaluate(tables(), resamples=20)
    assert of_other_packages(found) == {"own": Estimate(0.5, 0.25, 0.75, 200)}
    ordinal = evaluate(tables(), class_order="abcd", resamples=20)
    assert set(of_other_packages(ordinal)) == {"own", "ordinal"}
    for name in ("ordinal", *ORDINAL, "nonsense", "classes"):
        with pytest.raises(LookupError, match=name):
            found[name]


def test_an_undefined_metric_is_nan_without_images(registered: None) -> None:
    register_metric(
        ConfusionMetric("undefined", "Undefined", lambda matrix: np.full(matrix.shape[:-2], np.nan))
    )
    found = evaluate(tables(), resamples=20)["undefined"]
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.n == 0


def test_a_taken_name_is_refused(registered: None) -> None:
    with pytest.raises(ValueError, match="expected a new name among the metrics"):
        register_metric(TopTwo(name="mcc"))


def label_table(images: int = 120) -> LabelPredictions:
    rng = np.random.default_rng(3)
    labels = rng.random((images, 2)) < 0.3
    logits = (rng.normal(size=(images, 2)) + 2 * labels).astype(np.float32)
    image = np.array([f"{i:04}" for i in range(images)])
    fold, p = np.arange(images) % 3, 1 / (1 + np.exp(-logits))
    return LabelPredictions(image, image, labels, fold, logits, ("x", "y"), p)


def test_an_evaluation_has_the_metrics_of_the_registry_in_its_order(registered: None) -> None:
    register_metric(TopTwo())
    single = evaluate(tables(), train_counts=[500, 50, 5, 5], class_order="abcd", resamples=20)
    several = evaluate_labels([label_table()], train_counts=[500, 50])
    for found, names in ((single, tuple("abcd")), (several, ("x", "y"))):
        order = [(metric.name, of) for metric, of, _ in found]
        assert order == list(found.estimates)
        place = {name: at for at, name in enumerate(METRICS.names())}
        assert order == sorted(order, key=lambda key: (place[key[0]], key[1]))
        for metric, of, estimate in found:
            assert metric == metric_facts(metric.name)
            assert (of in names) == metric.by_class, metric.name
            assert metric.low <= estimate.low <= estimate.value <= estimate.high <= metric.high, metric.name
    only_single = {"balanced_accuracy", "mcc", *ORDINAL, "accuracy", "top_2"}
    only_single |= {f"{name}_{group}" for name in ("recall", "f1") for group in ("many", "medium", "few")}
    no_label = {
        f"{name}_few" for name in ("average_precision", "auroc")
    }  # of these two labels none is few-shot
    assert {metric.name for metric, _, _ in single} - {metric.name for metric, _, _ in several} == only_single
    assert {metric.name for metric, _, _ in single} | {metric.name for metric, _, _ in several} == (
        set(METRICS.names()) - no_label
    )


def test_facts_of_metrics(registered: None) -> None:
    register_metric(TopTwo())
    register_metric(TopTwo(name="own", interval=lambda sample: Estimate(0.5, 0.25, 0.75, len(sample))))
    drawn, own, npv = (metric_facts(name) for name in ("top_2", "own", "npv"))
    assert (drawn.title, drawn.heading, drawn.by_class) == ("Top-2 accuracy", "Top-2 accuracy", False)
    assert (drawn.interval_kind, own.interval_kind) == ("group bootstrap", "of the metric")
    assert (npv.heading, npv.interval_kind, npv.by_class) == ("NPV, %", "Wilson", True)
    assert not metric_facts("hamming_loss").greater_is_better
    assert metric_facts("mcc").low == -1
    with pytest.raises(LookupError, match="nonsense"):
        metric_facts("nonsense")


def test_a_sample_metric_gives_a_number_for_each_class_or_none(registered: None) -> None:
    """Only for the kind of data that it is for."""
    register_metric(SampleMetric("missed", "Missed", lambda sample: sample.recall, "Wilson", by_class=True))
    register_metric(SampleMetric("never", "Never", lambda _: None, "none"))
    register_metric(SampleMetric("single", "Single", lambda sample: sample.accuracy, "W", multi_label=False))
    single, several = evaluate(tables(), resamples=20), evaluate_labels([label_table()])
    for found in (single, several):
        assert found.by_class("missed") == found.by_class("recall")
        assert "never" not in {metric.name for metric, _, _ in found}
    assert single["single"] == single["accuracy"]
    with pytest.raises(KeyError, match="single"):
        several["single"]
