"""Metrics against scikit-learn, hand-worked tables and the rules for what is undefined."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tametail.evaluation import metrics

CLASSES = 4
SHARES = ("recall", "precision", "specificity", "npv", "f1", "balanced_accuracy", "macro_f1", "accuracy")
EVERY = (*SHARES, "mcc", "quadratic_kappa")
labels = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60
).map(lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True)))


def _reference_sklearn(target, predicted):
    present = np.unique(target)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        target, predicted, labels=range(CLASSES), zero_division=np.nan
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a division by zero, and of a single label
        kappa = sk.cohen_kappa_score(target, predicted, labels=range(CLASSES), weights="quadratic")
        mcc = sk.matthews_corrcoef(target, predicted)
    both_constant = len(present) == len(np.unique(predicted)) == 1
    return {
        "specificity": [_reference_specificity(target == c, predicted == c) for c in range(CLASSES)],
        "npv": [_reference_npv(target == c, predicted == c) for c in range(CLASSES)],
        # scikit-learn says 0 of what cannot be known, also where all is right.
        "mcc": np.nan if both_constant else mcc,
        "quadratic_kappa": np.nan if both_constant and target[0] == predicted[0] else kappa,
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "balanced_accuracy": recall[present].mean(),
        "macro_f1": sk.f1_score(target, predicted, labels=present, average="macro", zero_division=0),
        "accuracy": sk.accuracy_score(target, predicted),
    }


def _reference_specificity(target, predicted):
    """The recall of the negatives."""
    return sk.recall_score(target, predicted, pos_label=False, zero_division=np.nan)


def _reference_npv(target, predicted):
    """The precision of the negatives."""
    return sk.precision_score(target, predicted, pos_label=False, zero_division=np.nan)


@settings(deadline=None)
@given(labels)
def test_agrees_with_scikit_learn(pairs):
    target, predicted = pairs
    matrix = metrics.confusion_matrix(target, predicted, CLASSES)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(target, predicted, labels=range(CLASSES)))
    for name, expected in _reference_sklearn(target, predicted).items():
        np.testing.assert_allclose(
            getattr(metrics, name)(matrix), expected, rtol=1e-12, atol=1e-12, err_msg=name
        )


def test_balanced_accuracy_is_that_of_scikit_learn():
    target, predicted = np.array([0, 0, 1, 1, 1, 3]), np.array([0, 1, 1, 1, 3, 3])
    matrix = metrics.confusion_matrix(target, predicted, CLASSES)
    assert metrics.balanced_accuracy(matrix) == pytest.approx(sk.balanced_accuracy_score(target, predicted))


def test_hand_worked_table():
    # Class 1 is absent but predicted once, class 3 is present and never predicted, class 4 is neither.
    matrix = np.zeros((5, 5))
    matrix[0, 0], matrix[0, 1], matrix[2, 2], matrix[3, 2] = 3, 1, 2, 2
    nan = np.nan
    np.testing.assert_allclose(metrics.recall(matrix), [0.75, nan, 1, 0, nan])
    np.testing.assert_allclose(metrics.precision(matrix), [1, 0, 0.5, nan, nan])
    np.testing.assert_allclose(metrics.f1(matrix), [6 / 7, 0, 2 / 3, 0, nan])
    assert metrics.balanced_accuracy(matrix) == pytest.approx((0.75 + 1 + 0) / 3)
    assert metrics.macro_f1(matrix) == pytest.approx((6 / 7 + 2 / 3 + 0) / 3)
    assert metrics.accuracy(matrix) == pytest.approx(5 / 8)


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_equals_its_matrices_one_by_one(name):
    batch = np.random.default_rng(0).integers(0, 3, (5, 2, 3, 3)) * np.array([1, 1, 0])
    function = getattr(metrics, name)
    one_by_one = np.array([[function(matrix) for matrix in row] for row in batch])
    np.testing.assert_allclose(function(batch), one_by_one, rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_no_images_is_nan_not_zero(name):
    assert np.isnan(getattr(metrics, name)(np.zeros((3, 3)))).all()


@pytest.mark.parametrize(("weight", "value"), [(np.eye(3), 1.0), (1 - np.eye(3), 0.0)])
def test_all_right_is_one_and_all_wrong_is_zero(weight, value):
    for name in set(SHARES) - {"specificity", "npv"}:
        assert np.all(getattr(metrics, name)(weight) == value), name


def test_classes_absent_from_target_and_prediction_still_have_a_row():
    assert metrics.confusion_matrix([], [], 3).tolist() == [[0] * 3] * 3
    assert metrics.confusion_matrix([1], [0], 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("target", "predicted", "message"),
    [
        ([0, 3], [0, 0], r"target in 0\.\.2, got 0\.\.3"),
        ([0, 1], [0, -1], r"predicted in 0\.\.2, got -1\.\.0"),
        ([0, 1], [0], "one length"),
        ([[0]], [[0]], "one length"),
    ],
)
def test_bad_indices_are_named(target, predicted, message):
    with pytest.raises(ValueError, match=message):
        metrics.confusion_matrix(target, predicted, 3)


def test_a_matrix_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"got shape \(2, 3\)"):
        metrics.recall(np.zeros((2, 3)))


@pytest.mark.parametrize("name", ["mcc", "quadratic_kappa"])
def test_all_right_is_one_and_a_constant_tells_nothing(name):
    function = getattr(metrics, name)
    assert function(np.diag([5, 3, 2])) == pytest.approx(1)
    constant = np.zeros((3, 3))
    constant[:, 1] = [5, 3, 2]
    assert function(constant) == function(constant.T) == 0
    assert np.isnan(function(np.diag([0, 4, 0])))


def test_kappa_is_minus_one_where_ends_are_exchanged_and_mcc_of_two_classes_is_their_correlation():
    assert metrics.quadratic_kappa(np.fliplr(np.diag([4, 0, 4]))) == -1
    target, predicted = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    matrix = metrics.confusion_matrix(target, predicted, 2)
    assert metrics.mcc(matrix) == pytest.approx(np.corrcoef(target, predicted)[0, 1])


def test_the_sums_of_a_large_table_do_not_overflow():
    matrix = np.array([[9e6, 1e6], [1e6, 9e6]])
    assert metrics.mcc(matrix) == pytest.approx(0.8)
    assert metrics.quadratic_kappa(matrix) == pytest.approx(0.8)
