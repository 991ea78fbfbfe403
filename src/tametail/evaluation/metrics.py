"""Classification metrics as pure functions of a confusion matrix.

A confusion matrix has the true class in the rows and the predicted class in the columns. Every function
takes a batch of them, shape (..., C, C), counts or weighted counts. Undefined values are nan, never 0.
Shape legend: N images, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.core.arrays import FloatArray


def confusion_matrix(target: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count images by true class (rows) and predicted class (columns).

    Args:
        target: (N,) class indices in 0..classes-1.
        predicted: (N,) class indices in 0..classes-1.
        classes: C, the number of classes, absent ones included.

    Returns:
        (C, C) counts.

    Raises:
        ValueError: the lengths differ or an index is out of range.
    """
    rows, columns = np.asarray(target, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got shapes {rows.shape} and {columns.shape}")
    for name, codes in (("target", rows), ("predicted", columns)):
        if codes.size and not (codes.min() >= 0 and codes.max() < classes):
            raise ValueError(f"expected {name} in 0..{classes - 1}, got {codes.min()}..{codes.max()}")
    counts = np.bincount(rows * classes + columns, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def recall(confusion: ArrayLike) -> FloatArray:
    """Per-class accuracy TP / (TP + FN), shape (..., C); nan where the class is absent."""
    matrix = _matrices(confusion)
    return _ratio(_hits(matrix), matrix.sum(axis=-1))


def precision(confusion: ArrayLike) -> FloatArray:
    """TP / (TP + FP), shape (..., C); nan where nothing is predicted as the class."""
    matrix = _matrices(confusion)
    return _ratio(_hits(matrix), matrix.sum(axis=-2))


def specificity(confusion: ArrayLike) -> FloatArray:
    """TN / (TN + FP), shape (..., C): proportion of the images of other classes not predicted as the class.

    nan where all images are of the class.
    """
    matrix = _matrices(confusion)
    actual, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    others = actual.sum(axis=-1, keepdims=True) - actual
    return _ratio(others - predicted + _hits(matrix), others)


def npv(confusion: ArrayLike) -> FloatArray:
    """TN / (TN + FN), shape (..., C): proportion of the images not predicted as the class that are of other classes.

    nan where all images are predicted as the class.
    """
    matrix = _matrices(confusion)
    actual, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    others = predicted.sum(axis=-1, keepdims=True) - predicted
    return _ratio(others - actual + _hits(matrix), others)


def f1(confusion: ArrayLike) -> FloatArray:
    """2TP / (2TP + FP + FN), shape (..., C); nan where the class is absent and never predicted."""
    matrix = _matrices(confusion)
    return f1_from_counts(_hits(matrix), matrix.sum(axis=-1), matrix.sum(axis=-2))


def f1_from_counts(hits: ArrayLike, actual: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """F1 from TP, TP + FN and TP + FP, each (..., C); nan where the last two are 0."""
    return _ratio(2 * np.asarray(hits, dtype=np.float64), np.asarray(actual) + np.asarray(predicted))


def balanced_accuracy(confusion: ArrayLike) -> FloatArray:
    """Mean recall of the classes present in the target, shape (...); nan where there are no images."""
    return mean_over(recall(confusion), _matrices(confusion).sum(axis=-1) > 0)


def macro_f1(confusion: ArrayLike) -> FloatArray:
    """Mean F1 of the classes present in the target, shape (...); nan where there are no images."""
    return mean_over(f1(confusion), _matrices(confusion).sum(axis=-1) > 0)


def accuracy(confusion: ArrayLike) -> FloatArray:
    """Proportion of correct images, shape (...); nan where there are no images."""
    matrix = _matrices(confusion)
    return _ratio(_hits(matrix).sum(axis=-1), matrix.sum(axis=(-2, -1)))


def mcc(confusion: ArrayLike) -> FloatArray:
    """Matthews correlation of target and prediction over all classes, shape (...), in -1..1; see `mcc_from_counts`."""
    matrix = _matrices(confusion)
    return mcc_from_counts(_hits(matrix), matrix.sum(axis=-1), matrix.sum(axis=-2))


def mcc_from_counts(hits: ArrayLike, actual: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """The R_K statistic (Gorodkin 2004) from TP, TP + FN and TP + FP, each (..., C); shape (...).

    0 where either the target or the prediction is constant, the limit of 0 / 0 (Chicco & Jurman 2020), as kappa.
    nan where both are constant, or there are no images.
    """
    right, truth, given = (np.asarray(counts, dtype=np.float64) for counts in (hits, actual, predicted))
    n = truth.sum(axis=-1)
    varies, also = (n**2 - (counts**2).sum(axis=-1) for counts in (truth, given))
    scale = np.sqrt(varies * also)
    ratio = _ratio(n * right.sum(axis=-1) - (truth * given).sum(axis=-1), scale)
    one_is_constant = (scale == 0) & (varies + also > 0)
    return np.asarray(np.where(one_is_constant, 0.0, np.clip(ratio, -1.0, 1.0)))


def quadratic_kappa(confusion: ArrayLike) -> FloatArray:
    """Cohen's kappa with quadratic weights, shape (...), in -1..1; classes from the lowest grade to the highest.

    See `kappa_from_counts`.
    """
    matrix = _matrices(confusion)
    place = np.arange(matrix.shape[-1])
    distance = (matrix * (place[:, None] - place) ** 2).sum(axis=(-2, -1))
    return kappa_from_counts(distance, matrix.sum(axis=-1), matrix.sum(axis=-2))


def mean_absolute_error(confusion: ArrayLike) -> FloatArray:
    """Mean distance in grades from the true class to the predicted one, shape (...); classes in their order.

    nan where there are no images.
    """
    matrix = _matrices(confusion)
    place = np.arange(matrix.shape[-1])
    return _ratio((matrix * np.abs(place[:, None] - place)).sum(axis=(-2, -1)), matrix.sum(axis=(-2, -1)))


def off_by_one_accuracy(confusion: ArrayLike) -> FloatArray:
    """Proportion of images predicted as their class or one next to it, shape (...); classes in their order.

    nan where there are no images.
    """
    matrix = _matrices(confusion)
    place = np.arange(matrix.shape[-1])
    near = np.abs(place[:, None] - place) <= 1
    return _ratio((matrix * near).sum(axis=(-2, -1)), matrix.sum(axis=(-2, -1)))


def kappa_from_counts(distance: ArrayLike, actual: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """1 - disagreement / disagreement by chance (Cohen 1968), shape (...).

    Args:
        distance: (...) sum over the images of the squared distance from the true class to the predicted one.
        actual: (..., C) TP + FN, the lowest grade first.
        predicted: (..., C) TP + FP, the lowest grade first.

    Returns:
        nan where all images are of one class and predicted as it, or there are none.
    """
    return 1 - _ratio(distance, chance_distance(actual, predicted))


def chance_distance(actual: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """Expected sum of squared distances (...) of predictions (..., C) that are independent of the targets."""
    truth, given = (np.asarray(counts, dtype=np.float64) for counts in (actual, predicted))
    place = np.arange(truth.shape[-1], dtype=np.float64)
    # sum_ij t_i p_j (i - j)² / n, with both sums of counts equal to n.
    crossed = (truth * place).sum(axis=-1) * (given * place).sum(axis=-1)
    squares = ((truth + given) * place**2).sum(axis=-1)
    n = truth.sum(axis=-1)
    return np.asarray(squares - 2 * _ratio(crossed, n))


def mean_over(values: FloatArray, present: NDArray[np.bool_]) -> FloatArray:
    """Mean over the last axis of the entries that ``present`` marks; nan where it marks none."""
    return _ratio(np.where(present, values, 0.0).sum(axis=-1), present.sum(axis=-1))


def _matrices(confusion: ArrayLike) -> FloatArray:
    matrix = np.asarray(confusion, dtype=np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"expected confusion matrices (..., C, C), got shape {matrix.shape}")
    return matrix


def _hits(matrix: FloatArray) -> FloatArray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(part: ArrayLike, whole: ArrayLike) -> FloatArray:
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64))
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
