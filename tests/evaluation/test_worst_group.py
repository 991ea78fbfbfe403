"""The lowest balanced accuracy of subgroups, compared with scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from fixtures.made_up import made_up
from tametail.evaluation.intervals import mean_of_proportions, wilson
from tametail.evaluation.sample import Sample
from tametail.evaluation.worst_group import balanced_accuracies, lowest_balanced_accuracy, worst_group

SUBGROUP = np.arange(240) // 2 % 3 - 1  # -1 belongs to none


def test_it_is_the_lowest_of_scikit_learn_with_the_lowest_lower_limit() -> None:
    table = made_up()
    found = worst_group([table], SUBGROUP)
    parts = [table.take(code == SUBGROUP) for code in (0, 1)]
    assert found.value == pytest.approx(
        min(balanced_accuracy_score(part.target, part.predicted) for part in parts)
    )
    alone = [Sample([part]).balanced_accuracy for part in parts]
    assert found.low == pytest.approx(min(one.low for one in alone))
    # The upper limit must hold for all subgroups at once.
    assert found.value < min(one.high for one in alone) < found.high
    assert found.n == 160


def test_the_upper_limit_of_single_images_is_that_of_two_at_once() -> None:
    table = made_up(per_group=1)
    high = []
    for code in (0, 1):
        part = table.take(code == SUBGROUP)
        n = np.bincount(part.target)
        recall = np.bincount(part.target, part.predicted == part.target) / n
        limits = wilson(recall, n, confidence=0.975)
        # Recalls of single images are independent.
        high.append(mean_of_proportions(recall, *limits, n, confidence=0.975)[1])
    assert worst_group([table], SUBGROUP).high == pytest.approx(float(min(high)), rel=0.01)


def test_one_subgroup_is_the_balanced_accuracy() -> None:
    table = made_up()
    found = worst_group([table], np.zeros(240, dtype=np.int64))
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(Sample([table]).balanced_accuracy))


def test_recalls_are_averaged_over_the_replicates_first() -> None:
    tables = [made_up(), dataclasses.replace(made_up(1), target=made_up().target)]
    by_subgroup = [
        np.mean([balanced_accuracy_score(t.target[own], t.predicted[own]) for t in tables])
        for own in (code == SUBGROUP for code in (0, 1))
    ]
    assert worst_group(tables, SUBGROUP).value == pytest.approx(min(by_subgroup))


def test_without_a_subgroup_it_is_undefined() -> None:
    found = worst_group([made_up()], np.full(240, -1))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.n == 0


def test_absent_classes_and_subgroups_do_not_count() -> None:
    images = np.array([[4, 0], [2, 2], [0, 0]])
    hits = np.array([[[1, 0], [2, 1], [0, 0]], [[4, 0], [0, 1], [0, 0]]])
    np.testing.assert_allclose(balanced_accuracies(hits, images), [[0.25, 0.75, np.nan], [1, 0.25, np.nan]])
    assert lowest_balanced_accuracy(hits, images).tolist() == [0.25, 0.25]
    assert np.isnan(lowest_balanced_accuracy(np.zeros((2, 2)), np.zeros((2, 2))))
