"""Many-, medium- and few-shot classes: which classes belong to them, and means over their classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from tametail.evaluation import evaluate, intervals
from tametail.evaluation.evaluate import few_shot_classes, many_shot_classes
from tametail.predictions.single_label import Predictions


def _table(target: np.ndarray, predicted: np.ndarray, classes: int) -> Predictions:
    image = np.array([f"{index:04}" for index in range(len(target))])
    logits, names = np.eye(classes, dtype=np.float32)[predicted], tuple(f"c{c}" for c in range(classes))
    return Predictions(image, image, target, np.zeros(len(target), dtype=np.int64), logits, names, "softmax")


def test_few_shot_classes_are_the_rarest_third_and_any_as_rare() -> None:
    assert np.flatnonzero(few_shot_classes([100, 5, 50, 7, 20, 30, 9])).tolist() == [1, 3]
    assert few_shot_classes([100, 5]).tolist() == [False, True]  # at least one
    assert few_shot_classes([9, 5, 5, 5]).tolist() == [False, True, True, True]


def test_many_shot_classes_are_the_most_frequent_third_and_never_few_shot() -> None:
    assert np.flatnonzero(many_shot_classes([100, 5, 50, 7, 20, 30, 9])).tolist() == [0, 2]
    assert many_shot_classes([100, 5]).tolist() == [True, False]
    assert many_shot_classes([9, 9, 9, 5]).tolist() == [True, True, True, False]
    assert not many_shot_classes([5, 5, 5]).any()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_many_shot_classes_have_more_images_than_few_shot_ones(counts: list[int]) -> None:
    many, few = many_shot_classes(counts), few_shot_classes(counts)
    assert few.any()
    assert not (many & few).any()
    values = np.array(counts)
    for upper, lower in ((many, ~many), (~few, few)):
        if upper.any() and lower.any():
            assert values[upper].min() > values[lower].max()


def test_means_of_class_groups_are_those_of_scikit_learn_over_the_classes_present() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(6, 300, p=[0.4, 0.3, 0.15, 0.1, 0.05, 0])
    predicted = np.where(rng.random(300) < 0.7, target, rng.integers(0, 6, 300))
    result = evaluate([_table(target, predicted, 6)], train_counts=[60, 50, 40, 30, 20, 10], resamples=50)
    assert [(group.name, group.classes) for group in result.class_groups] == [
        ("many", (0, 1)),
        ("medium", (2, 3)),
        ("few", (4, 5)),
    ]
    for group, classes in zip(result.class_groups, ([0, 1], [2, 3], [4]), strict=True):
        for found, score in ((group.recall, sk.recall_score), (group.f1, sk.f1_score)):
            assert found.value == pytest.approx(score(target, predicted, labels=classes, average="macro"))
            assert found.n == np.isin(target, classes).sum()
            assert 0 <= found.low < found.value < found.high <= 1
    parts = [result.classes[c].recall for c in (0, 1)]
    limits = intervals.mean_of_proportions(*np.array([(p.value, p.low, p.high, p.n) for p in parts]).T)
    # Every image is its own group, and is of one class: the recalls are independent.
    np.testing.assert_allclose(
        [result.class_groups[0].recall.low, result.class_groups[0].recall.high], limits
    )


def test_a_class_group_of_absent_classes_is_nan_and_one_without_classes_is_left_out() -> None:
    target = np.array([0, 0, 0, 0])
    many, few = evaluate([_table(target, target, 2)], train_counts=[50, 3], resamples=20).class_groups
    assert (many.name, many.recall.value, many.recall.n) == ("many", 1.0, 4)
    assert (few.name, few.classes, few.recall.n) == ("few", (1,), 0)
    assert np.isnan([few.recall.value, few.recall.low, few.f1.value, few.f1.high]).all()


def test_training_counts_of_other_classes_are_refused() -> None:
    table = _table(np.array([0, 1]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="training counts of 2 classes, got 3"):
        evaluate([table], train_counts=[1, 2, 3])
    assert evaluate([table], resamples=20).class_groups == ()
