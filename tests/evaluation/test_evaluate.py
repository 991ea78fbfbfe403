from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from tametail.evaluation import Estimate, Evaluation, evaluate
from tametail.predictions import Predictions


def table(
    target: object, predicted: object, *, classes: int = 3, group: object = None, seed: int = 0
) -> Predictions:
    """Predictions whose largest logit is where it is asked for, in a shuffled order of images."""
    truth, guess = np.asarray(target, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    n = len(truth)
    images = np.array([f"i{index:04d}" for index in range(n)])
    groups = images if group is None else np.array([f"g{g}" for g in np.asarray(group)])
    order = np.random.default_rng(seed).permutation(n)
    logits = np.eye(classes, dtype=np.float32)[guess] if n else np.empty((0, classes), np.float32)
    names = tuple("abcdefgh"[:classes])
    return Predictions(
        images[order], groups[order], truth[order], np.zeros(n, np.int64), logits[order], names, "softmax"
    )


def random_table(seed: int, n: int = 200, classes: int = 4, groups: int = 60) -> Predictions:
    rng = np.random.default_rng(seed)
    target = np.random.default_rng(99).choice(classes, n, p=np.array([8, 4, 2, 1]) / 15)
    predicted = np.where(rng.random(n) < 0.6, target, rng.integers(0, classes, n))
    return table(target, predicted, classes=classes, group=np.arange(n) % groups)


def estimates(found: Evaluation) -> list[Estimate]:
    per_class = [e for result in found.classes for e in (result.recall, result.precision, result.f1)]
    return [found.balanced_accuracy, found.macro_f1, found.accuracy, *per_class]


def test_values_agree_with_scikit_learn() -> None:
    predictions = random_table(0)
    found = evaluate([predictions])
    y, p = predictions.target, predictions.predicted
    assert found.balanced_accuracy.value == pytest.approx(reference.balanced_accuracy_score(y, p))
    assert found.macro_f1.value == pytest.approx(reference.f1_score(y, p, average="macro"))
    assert found.accuracy.value == pytest.approx(reference.accuracy_score(y, p))
    np.testing.assert_array_equal(found.confusion, reference.confusion_matrix(y, p))
    for name, score in (("recall", reference.recall_score), ("precision", reference.precision_score)):
        np.testing.assert_allclose([getattr(r, name).value for r in found.classes], score(y, p, average=None))
    assert [r.n for r in found.classes] == np.bincount(y).tolist()
    assert (found.n, found.groups, found.replicates) == (200, 60, 1)


def test_replicates_are_averaged_and_n_stays_the_number_of_images() -> None:
    tables = [random_table(seed) for seed in (1, 2, 3)]
    found, alone = evaluate(tables), [evaluate([one]) for one in tables]
    for name in ("balanced_accuracy", "macro_f1", "accuracy"):
        assert getattr(found, name).value == pytest.approx(
            np.mean([getattr(one, name).value for one in alone])
        )
        assert getattr(found, name).n == 200
    np.testing.assert_allclose(found.confusion, np.mean([one.confusion for one in alone], axis=0))
    assert found.replicates == 3


def test_the_same_table_twice_says_no_more_than_once() -> None:
    once, twice = evaluate([random_table(0)]), evaluate([random_table(0), random_table(0)])
    for a, b in zip(estimates(once), estimates(twice), strict=True):
        assert (a.value, a.low, a.high, a.n) == pytest.approx((b.value, b.low, b.high, b.n))


def test_copies_of_images_in_a_group_do_not_narrow_an_interval() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 120)
    predicted = np.where(rng.random(120) < 0.7, target, rng.integers(0, 3, 120))
    once = evaluate([table(target, predicted)])
    copied = evaluate(
        [table(np.repeat(target, 4), np.repeat(predicted, 4), group=np.repeat(np.arange(120), 4))]
    )
    for a, b in zip(estimates(once), estimates(copied), strict=True):
        assert a.value == pytest.approx(b.value)
        assert b.high - b.low > 0.95 * (a.high - a.low)


def test_an_absent_class_is_absent_and_never_zero() -> None:
    found = evaluate([table([0, 0, 1, 1], [0, 1, 1, 1])])
    absent = found.classes[2]
    assert (absent.n, absent.groups) == (0, 0)
    assert all(
        math.isnan(value)
        for value in (absent.recall.value, absent.recall.low, absent.precision.value, absent.f1.value)
    )
    assert found.balanced_accuracy.value == pytest.approx(0.75)
    assert found.macro_f1.value == pytest.approx((2 / 3 + 0.8) / 2)


@pytest.mark.parametrize(
    ("target", "predicted", "value"),
    [([0, 1, 2] * 9, [0, 1, 2] * 9, 1.0), ([0, 1, 2] * 9, [1, 2, 0] * 9, 0.0)],
)
def test_all_right_and_all_wrong_still_have_an_interval(
    target: list[int], predicted: list[int], value: float
) -> None:
    found = evaluate([table(target, predicted)])
    for estimate in (found.balanced_accuracy, found.accuracy, found.classes[0].recall):
        assert estimate.value == value
        assert 0 < estimate.high - estimate.low < 1
        assert value in (estimate.low, estimate.high)


def test_one_image_and_one_group_leave_nearly_everything_open() -> None:
    for target, group in (([1], [0]), ([1, 1, 1], [0, 0, 0])):
        found = evaluate([table(target, target, group=group)])
        assert found.accuracy.value == 1
        assert found.accuracy.low < 0.25


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 4).flatmap(
        lambda c: st.lists(
            st.tuples(*[st.integers(0, c - 1)] * 2, st.integers(0, 6)), min_size=1, max_size=40
        )
    )
)
def test_every_estimate_lies_in_its_interval_and_the_interval_in_0_to_1(
    rows: list[tuple[int, int, int]],
) -> None:
    target, predicted, group = (list(column) for column in zip(*rows, strict=True))
    for estimate in estimates(evaluate([table(target, predicted, classes=4, group=group)], resamples=50)):
        if not math.isnan(estimate.value):
            assert -1e-12 <= estimate.low <= estimate.value + 1e-12
            assert estimate.value - 1e-12 <= estimate.high <= 1 + 1e-12


def test_intervals_repeat_for_a_seed() -> None:
    first, second = (evaluate([random_table(0)], seed=3).macro_f1 for _ in range(2))
    assert first == second


def test_tables_of_other_images_are_refused() -> None:
    good = table([0, 1], [0, 1])
    with pytest.raises(ValueError, match="at least one table"):
        evaluate([])
    with pytest.raises(ValueError, match="at least one image"):
        evaluate([table([], [])])
    with pytest.raises(ValueError, match="same image column.*table 1"):
        evaluate([good, table([0, 1, 1], [0, 1, 1])])
    with pytest.raises(ValueError, match="same target column"):
        evaluate([good, table([1, 1], [0, 1])])
    with pytest.raises(ValueError, match="expected classes"):
        evaluate([good, table([0, 1], [0, 1], classes=2)])
