"""Thresholds as offsets of logits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from tametail.evaluation import metrics
from tametail.recommend.class_offsets import OffsetMetric, best_offsets

BOTH: tuple[OffsetMetric, ...] = ("balanced_accuracy", "macro_f1")


def _value(metric: OffsetMetric, target: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    function = metrics.balanced_accuracy if metric == "balanced_accuracy" else metrics.macro_f1
    return float(function(metrics.confusion_matrix(target, predicted, classes)))


def _sklearn(metric: OffsetMetric, target: np.ndarray, predicted: np.ndarray) -> float:
    if metric == "macro_f1":
        return float(f1_score(target, predicted, average="macro"))
    return float(balanced_accuracy_score(target, predicted))


def _made(seed: int, classes: int = 3, images: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.choice(
        classes, images, p=np.array([6.0, 2.0, 1.0, 1.0][:classes]) / sum([6, 2, 1, 1][:classes])
    )
    target[:classes] = np.arange(classes)
    return rng.normal(size=(images, classes)) + np.eye(classes)[target] + np.array(
        [1.5, 0, 0, 0][:classes]
    ), target


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize("seed", range(5))
def test_of_two_classes_no_threshold_is_better(seed: int, metric: OffsetMetric) -> None:
    logits, target = _made(seed, classes=2)
    found = best_offsets(logits, target, metric)
    margins = np.sort(logits[:, 1] - logits[:, 0])
    every = np.concatenate([[margins[0] - 1], (margins[1:] + margins[:-1]) / 2, [margins[-1] + 1]])
    best = max(_sklearn(metric, target, (logits[:, 1] - logits[:, 0] > place).astype(int)) for place in every)
    reached = _value(metric, target, (logits + found).argmax(axis=1), 2)
    assert reached == pytest.approx(best)


@pytest.mark.parametrize("metric", BOTH)
def test_of_three_classes_it_comes_near_the_best_of_a_grid(metric: OffsetMetric) -> None:
    logits, target = _made(0)
    grid = np.linspace(-4, 4, 81)
    best = max(
        _value(metric, target, (logits + np.array([0, b, c])).argmax(axis=1), 3)
        for b, c in product(grid, grid)
    )
    offsets = best_offsets(logits, target, metric)
    reached = _value(metric, target, (logits + offsets).argmax(axis=1), 3)
    assert reached >= best - 0.01


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(2, 4),
    decimals=st.sampled_from([0, 6]),
    metric=st.sampled_from(BOTH),
)
def test_they_never_lose_change_nothing_by_a_shift_and_have_mean_0(
    seed: int, classes: int, decimals: int, metric: OffsetMetric
) -> None:
    logits, target = _made(seed, classes)
    logits = logits.round(decimals)  # with ties
    found = best_offsets(logits, target, metric)
    before = _value(metric, target, logits.argmax(axis=1), classes)
    assert _value(metric, target, (logits + found).argmax(axis=1), classes) >= before - 1e-12
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert np.allclose(best_offsets(logits + 7.0, target, metric), found)
