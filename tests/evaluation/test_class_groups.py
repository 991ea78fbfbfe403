"""Many-, medium- and few-shot classes: which classes belong to them, and means over their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tametail.audit import class_distribution
from tametail.data import ImageTable
from tametail.data.class_groups import class_group_of
from tametail.evaluation import evaluate, intervals
from tametail.predictions.single_label import Predictions


def _table(target: np.ndarray, predicted: np.ndarray, classes: int) -> Predictions:
    image = np.array([f"{index:04}" for index in range(len(target))])
    logits, names = np.eye(classes, dtype=np.float32)[predicted], tuple(f"c{c}" for c in range(classes))
    return Predictions(image, image, target, np.zeros(len(target), dtype=np.int64), logits, names, "softmax")


def test_the_bounds_are_those_of_liu_et_al() -> None:
    expected = {0: "few", 19: "few", 20: "medium", 100: "medium", 101: "many", 24000: "many"}
    assert {count: class_group_of(count) for count in expected} == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), min_size=2, max_size=12))
def test_reports_and_the_audit_put_a_class_into_the_same_group(counts: list[int]) -> None:
    target = np.arange(len(counts))
    result = evaluate([_table(target, target, len(counts))], train_counts=counts, resamples=2)
    found = {f"c{index}": group for group, members in result.class_groups.items() for index in members}
    labels = [f"c{index}" for index, count in enumerate(counts) for _ in range(count)]
    frame = pd.DataFrame({"image": [f"{n:05}" for n in range(len(labels))], "label": labels}, dtype=object)
    frame["group"], frame["split"] = frame["image"], ""
    table = ImageTable(frame, Path(), tuple(sorted(found)), "drawn")
    assert {one.name: one.shot for one in class_distribution(table).classes} == found


def test_means_of_class_groups_are_those_of_scikit_learn_over_the_classes_present() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(6, 300, p=[0.4, 0.3, 0.15, 0.1, 0.05, 0])
    predicted = np.where(rng.random(300) < 0.7, target, rng.integers(0, 6, 300))
    result = evaluate([_table(target, predicted, 6)], train_counts=[600, 101, 100, 20, 19, 10], resamples=50)
    assert list(result.class_groups.items()) == [
        ("many", (0, 1)),
        ("medium", (2, 3)),
        ("few", (4, 5)),
    ]
    for group, classes in zip(result.class_groups, ([0, 1], [2, 3], [4]), strict=True):
        for name, score in (("recall", sk.recall_score), ("f1", sk.f1_score)):
            found = result[f"{name}_{group}"]
            assert found.value == pytest.approx(score(target, predicted, labels=classes, average="macro"))
            assert found.n == np.isin(target, classes).sum()
            assert 0 <= found.low < found.value < found.high <= 1
        assert result.class_group_recall[group] is result[f"recall_{group}"]
    parts = result.by_class("recall")[:2]
    limits = intervals.mean_of_proportions(*np.array([(p.value, p.low, p.high, p.n) for p in parts]).T)
    # Every image is its own group, and is of one class: the recalls are independent.
    np.testing.assert_allclose([result["recall_many"].low, result["recall_many"].high], limits)


def test_a_class_group_of_absent_classes_is_nan_and_one_without_classes_is_left_out() -> None:
    target = np.array([0, 0, 0, 0])
    found = evaluate([_table(target, target, 2)], train_counts=[150, 3], resamples=20)
    assert found.class_groups == {"many": (0,), "few": (1,)}
    many, few, few_f1 = found["recall_many"], found["recall_few"], found["f1_few"]
    assert (many.value, many.n, few.n) == (1.0, 4, 0)
    assert np.isnan([few.value, few.low, few_f1.value, few_f1.high]).all()
    assert list(found.class_group_recall) == ["many", "few"]
    for name in ("recall_medium", "f1_medium"):
        with pytest.raises(KeyError, match=name):
            found[name]


def test_training_counts_of_other_classes_are_refused() -> None:
    table = _table(np.array([0, 1]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="training counts of 2 classes, got 3"):
        evaluate([table], train_counts=[1, 2, 3])
    found = evaluate([table], resamples=20)
    assert found.class_groups == found.class_group_recall == {}
    assert not [metric.name for metric, _ in found.overall() if metric.name.endswith("_few")]
