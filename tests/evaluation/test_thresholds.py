from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from tametail.evaluation.label_thresholds import best_threshold, deployable_thresholds, out_of_fold_thresholds
from tametail.predictions.multi_label import LabelPredictions


def _reference_best_f1(positive: np.ndarray, p: np.ndarray) -> float:
    return max(sklearn.f1_score(positive, p >= cut, zero_division=0) for cut in set(p.tolist()))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(np.linspace(0, 1, 9).tolist())), min_size=1, max_size=30
    )
)
def test_no_other_threshold_has_a_higher_f1(rows: list[tuple[bool, float]]) -> None:
    positive, p = (np.array(column) for column in zip(*rows, strict=True))
    threshold = best_threshold(positive, p)
    assert 0 <= threshold <= 1
    if positive.any():
        f1 = sklearn.f1_score(positive, p >= threshold, zero_division=0)
        assert f1 == pytest.approx(_reference_best_f1(positive, p))
    else:
        assert threshold == 0.5


def test_it_lies_half_way_between_probabilities() -> None:
    assert best_threshold(np.array([True, True, False]), np.array([0.9, 0.8, 0.4])) == pytest.approx(0.6)
    assert best_threshold(np.array([True, True]), np.array([0.9, 0.2])) == pytest.approx(0.1)


def test_of_equally_good_ones_it_is_the_highest() -> None:
    """One of one right, and two of four with the other found: both F1 2/3."""
    positive, p = np.array([True, False, False, True]), np.array([0.9, 0.5, 0.4, 0.3])
    assert best_threshold(positive, p) == pytest.approx(0.7)


def make_table(seed: int = 0) -> LabelPredictions:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).random((80, 3)) < 0.3
    p = np.clip(rng.random((80, 3)) * 0.6 + 0.3 * labels, 0, 1).astype(np.float32)
    images = np.array([f"{number:03}" for number in range(80)])
    return LabelPredictions(images, images, labels, np.arange(80) % 4, p, ("a", "b", "c"), p)


def test_the_labels_of_a_fold_do_not_move_its_thresholds() -> None:
    table = make_table()
    before = out_of_fold_thresholds(table)
    own = table.fold == 2
    labels = np.where(own[:, None], ~table.labels, table.labels)
    p = np.where(own[:, None], 1 - table.posterior, table.posterior)
    after = out_of_fold_thresholds(dataclasses.replace(table, labels=labels, posterior=p))
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).any()
    assert len(np.unique(before[own], axis=0)) == 1


def test_the_deployable_ones_come_from_all_predictions() -> None:
    tables = [make_table(0), make_table(1)]
    labels = np.concatenate([table.labels for table in tables])
    p = np.concatenate([table.posterior for table in tables]).astype(np.float64)
    expected = [best_threshold(labels[:, c], p[:, c]) for c in range(3)]
    assert deployable_thresholds(tables).tolist() == expected


def test_where_there_is_no_other_fold_it_is_a_half() -> None:
    table = make_table()
    unfolded = dataclasses.replace(table, fold=np.zeros(80, dtype=np.int64))
    assert (out_of_fold_thresholds(unfolded) == 0.5).all()
