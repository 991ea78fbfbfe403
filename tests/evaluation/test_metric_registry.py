"""Metrics of other packages: registered under a name, evaluated beside the built-in ones with an interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn import metrics as sk

from tametail.core.arrays import FloatArray
from tametail.evaluation import METRICS, ConfusionMetric, Estimate, evaluate, register_metric
from tametail.evaluation.metric_registry import Interval
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions

BUILT_IN = ["balanced_accuracy", "macro_f1", "accuracy", "mcc", "kappa"]


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


def test_built_in_metrics_are_those_of_scikit_learn() -> None:
    assert METRICS.names()[:5] == BUILT_IN
    (table,) = tables(1)
    reference = {
        "balanced_accuracy": sk.balanced_accuracy_score,
        "macro_f1": lambda t, p, **more: sk.f1_score(t, p, average="macro", **more),
        "accuracy": sk.accuracy_score,
        "mcc": sk.matthews_corrcoef,
        "kappa": lambda t, p, **more: sk.cohen_kappa_score(t, p, weights="quadratic", **more),
    }
    weight = np.random.default_rng(1).integers(0, 4, len(table)).astype(np.float64)
    found = evaluate([table], class_order=table.class_names, resamples=20)
    for name in BUILT_IN:
        metric = METRICS.get(name)
        assert metric.value(table) == pytest.approx(reference[name](table.target, table.predicted))
        weighted = reference[name](table.target, table.predicted, sample_weight=weight)
        assert metric.value(table, weight) == pytest.approx(weighted)
        assert found.estimate(name).value == pytest.approx(metric.value(table))
        assert metric.low <= found.estimate(name).low <= found.estimate(name).high <= metric.high
    assert not found.additional


def test_a_metric_of_another_package_is_evaluated_with_an_interval_over_groups(registered: None) -> None:
    register_metric(TopTwo())
    replicates = tables()
    found = evaluate(replicates, resamples=200).estimate("top_2")
    assert found.value == pytest.approx(np.mean([TopTwo().value(table) for table in replicates]))
    assert found.n == 200
    assert found.low < found.value < found.high
    assert evaluate(replicates, resamples=200).additional == {"top_2": found}
    alone = [
        Predictions(
            *(getattr(t, f) for f in ("image", "image", "target", "fold", "logits", "class_names", "link"))
        )
        for t in replicates
    ]
    standard_error = np.sqrt(found.value * (1 - found.value) / 200)
    wide = evaluate(alone, resamples=400).estimate("top_2")
    assert (wide.high - wide.low) == pytest.approx(3.92 * standard_error, rel=0.5)


def test_the_bootstrap_of_a_registered_metric_agrees_with_that_of_macro_f1(registered: None) -> None:
    register_metric(ConfusionMetric("mean_f1", "Mean F1", METRICS.get("macro_f1").function))  # type: ignore[attr-defined]
    found = evaluate(tables(1), resamples=1000)
    assert found.estimate("mean_f1").value == pytest.approx(found.macro_f1.value)
    assert found.estimate("mean_f1").low == pytest.approx(found.macro_f1.low, abs=0.02)
    assert found.estimate("mean_f1").high == pytest.approx(found.macro_f1.high, abs=0.02)


def test_an_interval_of_its_own_and_a_metric_for_ordinal_classes(registered: None) -> None:
    def interval(sample: Sample) -> Estimate:
        return Estimate(0.5, 0.25, 0.75, len(sample))

    register_metric(TopTwo(name="own", interval=interval))
    register_metric(ConfusionMetric("ordinal", "Ordinal", np.linalg.det, ordinal=True))
    found = evaluate(tables(), resamples=20)
    assert found.additional == {"own": Estimate(0.5, 0.25, 0.75, 200)}
    assert set(evaluate(tables(), class_order="abcd", resamples=20).additional) == {"own", "ordinal"}
    for name in ("ordinal", "kappa", "nonsense", "classes"):
        with pytest.raises(LookupError, match=name):
            found.estimate(name)


def test_an_undefined_metric_is_nan_without_images(registered: None) -> None:
    register_metric(
        ConfusionMetric("undefined", "Undefined", lambda matrix: np.full(matrix.shape[:-2], np.nan))
    )
    found = evaluate(tables(), resamples=20).estimate("undefined")
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.n == 0


def test_a_taken_name_is_refused(registered: None) -> None:
    with pytest.raises(ValueError, match="expected a new name among the metrics"):
        register_metric(TopTwo(name="mcc"))
