"""The negative predictive value of a class: the share of other classes among the images not predicted as it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from tametail.evaluation import Estimate, evaluate, evaluate_labels, intervals, metrics
from tametail.evaluation.label_sample import LabelSample
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions


def table_of(target: np.ndarray, predicted: np.ndarray, group: np.ndarray | None = None) -> Predictions:
    image = np.array([f"{index:04}" for index in range(len(target))])
    logits = np.eye(3, dtype=np.float32)[predicted]
    groups = image if group is None else group.astype(np.str_)
    return Predictions(image, groups, target, np.zeros_like(target), logits, ("a", "b", "c"), "softmax")


def labels_of(labels: np.ndarray, p: np.ndarray, known: np.ndarray | None = None) -> LabelPredictions:
    image = np.array([f"{index:04}" for index in range(len(labels))])
    logits = np.log(p / (1 - p)).astype(np.float32)
    names = tuple(f"label{c}" for c in range(labels.shape[1]))
    unknown = None if known is None else ~known
    fold = np.arange(len(labels)) % 2
    return LabelPredictions(image, image, labels, fold, logits, names, p.astype(np.float32), unknown)


def of_confusion(target: np.ndarray, predicted: np.ndarray, code: int) -> float:
    """TN / (TN + FN) of scikit-learn's confusion matrix."""
    (tn, _), (fn, _) = sk.confusion_matrix(target == code, predicted == code, labels=[False, True])
    return float(tn / (tn + fn))


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def test_it_is_that_of_scikit_learns_confusion_matrix_over_several_replicates() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(3, 150, p=[0.7, 0.2, 0.1])
    given = [np.where(rng.random(150) < 0.6, target, rng.integers(0, 3, 150)) for _ in range(3)]
    found = evaluate([table_of(target, each) for each in given], resamples=10)
    for code, one in enumerate(found.by_class("npv")):
        assert one.value == pytest.approx(np.mean([of_confusion(target, each, code) for each in given]))
        assert one.n == (np.stack(given) != code).any(axis=0).sum()
        assert 0 <= one.low < one.value < one.high <= 1


def test_the_interval_is_wilsons_and_a_cluster_counts_as_little_as_one_image() -> None:
    target, predicted = np.repeat([0, 1, 2, 0], [40, 30, 20, 10]), np.repeat([0, 1, 2, 1], [40, 30, 20, 10])
    alone = evaluate([table_of(target, predicted)], resamples=10)["npv", "a"]
    np.testing.assert_allclose([alone.low, alone.high], intervals.wilson(50 / 60, 60))
    four = (np.repeat(each, 4) for each in (target, predicted, np.arange(100)))
    clustered = evaluate([table_of(*four)], resamples=10)["npv", "a"]
    assert clustered.value == alone.value
    assert clustered.n == 4 * alone.n
    assert width(alone) <= width(clustered) < 1.05 * width(alone)


def test_where_a_class_is_always_predicted_it_is_unknown() -> None:
    target = np.array([0, 0, 1, 2])
    found = evaluate([table_of(target, np.zeros_like(target))], resamples=10)
    always, *never = found.by_class("npv")
    assert np.isnan([always.value, always.low, always.high]).all()
    assert always.n == 0
    assert [(one.value, one.n) for one in never] == [(0.75, 4), (0.75, 4)]
    # A replicate that never predicts another class has no value, and takes no part in the mean.
    mixed = evaluate([table_of(target, np.zeros_like(target)), table_of(target, target)], resamples=10)
    assert (mixed["npv", "a"].value, mixed["npv", "a"].n) == (1, 2)


def test_it_exchanges_the_classes_of_the_precision() -> None:
    """With two classes the NPV of one is the precision of the other; a stack of matrices has that of each."""
    matrices = np.random.default_rng(1).integers(0, 9, (4, 2, 2))
    np.testing.assert_allclose(metrics.npv(matrices), metrics.precision(matrices)[:, ::-1])
    np.testing.assert_allclose(metrics.npv(matrices), [metrics.npv(one) for one in matrices])


def test_labels_are_known_or_not_counted() -> None:
    rng = np.random.default_rng(2)
    known = rng.random((200, 3)) < 0.7
    labels = (rng.random((200, 3)) < [0.5, 0.2, 0.05]) & known
    replicates = [labels_of(labels, np.clip(rng.random((200, 3)), 0.01, 0.99), known) for _ in range(2)]
    npv, found = LabelSample(replicates, [0.3, 0.6, 0.8]).npv, evaluate_labels(replicates, [0.3, 0.6, 0.8])
    for c, threshold in enumerate((0.3, 0.6, 0.8)):
        of = known[:, c]
        given = [table.posterior[:, c] >= threshold for table in replicates]
        expected = np.mean([of_confusion(labels[of, c], each[of], 1) for each in given])
        estimate = npv.estimate(c)
        assert estimate.value == pytest.approx(expected)
        assert estimate.n == (~np.stack(given)[:, of]).any(axis=0).sum()
        assert estimate.low < estimate.value < estimate.high
        assert found["npv", f"label{c}"] == estimate


def test_the_interval_of_a_label_is_wilsons_of_its_known_images() -> None:
    labels = np.repeat([[1, 0], [0, 1], [0, 0]], [20, 30, 50], axis=0).astype(bool)
    p = np.where(labels, 0.9, 0.1)
    p[:5, 0] = 0.1
    known = np.ones_like(labels)
    known[90:, 0] = False
    found = evaluate_labels([labels_of(labels, p, known)])
    npv = found["npv_at_half", "label0"]
    assert (npv.value, npv.n) == (70 / 75, 75)
    np.testing.assert_allclose([npv.low, npv.high], intervals.wilson(70 / 75, 75))
    assert found["npv_at_half", "label1"].n == 70


def test_a_label_that_is_never_known_or_always_predicted_has_none() -> None:
    labels, p, known = np.zeros((20, 2), dtype=bool), np.full((20, 2), 0.9), np.ones((20, 2), dtype=bool)
    known[:, 0] = False
    for estimate in evaluate_labels([labels_of(labels, p, known)]).by_class("npv_at_half"):
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
        assert estimate.n == 0
