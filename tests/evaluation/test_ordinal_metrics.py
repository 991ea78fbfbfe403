"""Metrics of ordinal classes beside scikit-learn and statsmodels, and their intervals by groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from statsmodels.stats.inter_rater import cohens_kappa

from tametail.core.arrays import IntArray
from tametail.evaluation import Evaluation, evaluate
from tametail.evaluation.metrics import confusion_matrix
from tametail.predictions.single_label import Predictions

NAMES = ("mild", "moderate", "none", "severe")  # by the alphabet
ORDER = ("none", "mild", "moderate", "severe")
GRADE = np.array([ORDER.index(name) for name in NAMES])


def table_of(target: IntArray, predicted: IntArray, group: IntArray | None = None) -> Predictions:
    image = np.array([f"{number:05}" for number in range(len(target))])
    groups = image if group is None else group.astype(np.str_)
    logits = np.eye(len(NAMES), dtype=np.float32)[predicted]
    return Predictions(image, groups, target, np.zeros(len(target), dtype=np.int64), logits, NAMES, "softmax")


def drawn(images: int = 300, repeats: int = 2, groups: int = 80, seed: int = 0) -> list[Predictions]:
    rng = np.random.default_rng(seed)
    target, group = rng.choice(4, images, p=[0.2, 0.3, 0.45, 0.05]), rng.integers(0, groups, images)
    off = [rng.choice([-2, -1, 0, 1, 2], images, p=[0.05, 0.2, 0.5, 0.2, 0.05]) for _ in range(repeats)]
    code = np.argsort(GRADE)
    return [table_of(target, code[np.clip(GRADE[target] + each, 0, 3)], group) for each in off]


def evaluated(tables: list[Predictions]) -> Evaluation:
    return evaluate(tables, class_order=ORDER, resamples=400)


def test_they_are_those_of_scikit_learn_and_statsmodels() -> None:
    tables = drawn()
    found = evaluated(tables)
    grades = [(GRADE[table.target], GRADE[table.predicted]) for table in tables]
    assert found["mean_absolute_error"].value == pytest.approx(
        np.mean([sk.mean_absolute_error(*pair) for pair in grades])
    )
    assert found["off_by_one_accuracy"].value == pytest.approx(
        np.mean([sk.accuracy_score(abs(true - given) <= 1, true == true) for true, given in grades])
    )
    kappas = [sk.cohen_kappa_score(*pair, weights="quadratic") for pair in grades]
    assert found["kappa"].value == pytest.approx(np.mean(kappas))
    weights = np.subtract.outer(np.arange(4), np.arange(4)) ** 2
    for pair, kappa in zip(grades, kappas, strict=True):
        other = cohens_kappa(confusion_matrix(*pair, 4), weights=weights, return_results=True)
        assert other.kappa == pytest.approx(kappa)
    alphabet = evaluate(tables, class_order=NAMES, resamples=10)
    assert alphabet["mean_absolute_error"].value > found["mean_absolute_error"].value


def test_the_interval_of_independent_images_is_that_of_statsmodels() -> None:
    """Its standard error of the weighted kappa is asymptotic (Fleiss, Cohen & Everitt 1969)."""
    (table,) = drawn(2000, 1, 10**9, seed=3)
    found = evaluated([table])
    grades = GRADE[table.target], GRADE[table.predicted]
    weights = np.subtract.outer(np.arange(4), np.arange(4)) ** 2
    other = cohens_kappa(confusion_matrix(*grades, 4), weights=weights, return_results=True)
    assert found["kappa"].high - found["kappa"].low == pytest.approx(2 * 1.96 * other.std_kappa, rel=0.2)
    error = np.abs(np.subtract(*grades)).std() / np.sqrt(2000)
    absolute = found["mean_absolute_error"]
    assert absolute.high - absolute.low == pytest.approx(2 * 1.96 * error, rel=0.2)


@pytest.mark.parametrize("metric", ["kappa", "mean_absolute_error", "off_by_one_accuracy"])
def test_images_of_the_same_patients_are_worth_less(metric: str) -> None:
    (table,) = drawn(200, 1, 10**9)
    ten = [np.tile(values, 10) for values in (table.target, table.predicted)]
    patients = evaluated([table_of(*ten, np.tile(np.arange(200), 10))])[metric]
    alone, as_independent = evaluated([table])[metric], evaluated([table_of(*ten)])[metric]
    assert patients.value == pytest.approx(alone.value)
    assert patients.high - patients.low == pytest.approx(alone.high - alone.low, rel=0.3)
    assert as_independent.high - as_independent.low < 0.6 * (patients.high - patients.low)


def test_without_an_error_the_intervals_have_a_width() -> None:
    target = np.repeat(np.arange(4), 10)
    found = evaluated([table_of(target, target)])
    assert found["mean_absolute_error"].value == 0
    assert 0.01 < found["mean_absolute_error"].high < 0.3
    assert found["off_by_one_accuracy"].value == 1
    assert 0.8 < found["off_by_one_accuracy"].low < 1
