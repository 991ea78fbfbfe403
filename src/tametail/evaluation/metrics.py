"""Classification metrics as pure functions of a confusion matrix.

A confusion matrix has the true class in the rows and the predicted class in the columns. Every function
takes a whole batch of them, shape (..., C, C), counts or weighted counts. What is undefined is nan, never 0.
Shape legend: N images, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


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
    """Share of images predicted right, shape (...); nan where there are no images."""
    matrix = _matrices(confusion)
    return _ratio(_hits(matrix).sum(axis=-1), matrix.sum(axis=(-2, -1)))


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
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
