"""Evaluation of prediction tables: values, counts, intervals, and what must not matter."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from fixtures.close import assert_close
from tametail.evaluation import bootstrap, evaluate, intervals
from tametail.predictions.single_label import Predictions

NAMES = ("akiec", "bcc", "mel")


def _table(target, predicted, group=None, names=NAMES):
    image = np.array([f"image{index:05}" for index in range(len(target))])
    group = image if group is None else np.asarray(group, dtype=np.str_)
    logits = np.eye(len(names), dtype=np.float32)[np.asarray(predicted)]
    fold = np.zeros(len(image), dtype=np.int64)
    return Predictions(image, group, np.asarray(target, dtype=np.int64), fold, logits, names, "softmax")


def _random_replicates(rng, images=60, groups=20, replicates=3, classes=3):
    target, group = rng.integers(0, classes, images), rng.integers(0, groups, images)
    names = tuple(f"c{index}" for index in range(classes))
    wrong = rng.integers(0, classes, (replicates, images))
    kept = rng.random((replicates, images)) < 0.6
    return [_table(target, predicted, group, names) for predicted in np.where(kept, target, wrong)]


def _estimates(result, of_classes=("recall", "precision", "f1", "npv")):
    per_class = [result[name, c.name] for c in result.classes for name in of_classes]
    return [result["balanced_accuracy"], result["macro_f1"], result["accuracy"], *per_class]


def test_values_are_means_of_scikit_learn_over_replicates():
    tables = _random_replicates(np.random.default_rng(0))
    result = evaluate(tables, resamples=50)
    pairs = [(table.target, table.predicted) for table in tables]
    assert result["accuracy"].value == pytest.approx(np.mean([sk.accuracy_score(*p) for p in pairs]))
    assert result["balanced_accuracy"].value == pytest.approx(
        np.mean([sk.balanced_accuracy_score(*p) for p in pairs])
    )
    assert result["macro_f1"].value == pytest.approx(
        np.mean([sk.f1_score(*p, average="macro") for p in pairs])
    )
    reference = np.mean([sk.precision_recall_fscore_support(*p)[:3] for p in pairs], axis=0)
    found = [[one.value for one in result.by_class(name)] for name in ("precision", "recall", "f1")]
    np.testing.assert_allclose(found, reference)
    np.testing.assert_allclose(result.confusion, np.mean([sk.confusion_matrix(*p) for p in pairs], axis=0))


def test_counts_of_images_and_groups():
    result = evaluate([_table([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], ["p", "p", "q", "q", "r"])], resamples=50)
    assert (result.n, result.groups, result.replicates) == (5, 3, 1)
    assert [(c.name, c.n, c.others, c.groups) for c in result.classes] == [
        ("akiec", 3, 2, 2),
        ("bcc", 2, 3, 2),
        ("mel", 0, 5, 0),
    ]
    assert [one.n for one in result.by_class("recall")] == [3, 2, 0]
    assert [one.n for one in result.by_class("precision")] == [3, 2, 0]
    assert [one.n for one in result.by_class("npv")] == [2, 3, 5]
    assert result["accuracy"].n == result["balanced_accuracy"].n == result["macro_f1"].n == 5


def test_ungrouped_intervals_are_plain_wilson():
    target = [0] * 40 + [1] * 12 + [2] * 8
    predicted = [0] * 33 + [1] * 7 + [1] * 9 + [0] * 3 + [2] * 5 + [0] * 3
    result = evaluate([_table(target, predicted)], resamples=50)
    of_classes = {
        "recall": [(33, 40), (9, 12), (5, 8)],
        "precision": [(33, 39), (9, 16), (5, 5)],
        "npv": [(14, 21), (41, 44), (52, 55)],
        "specificity": [(14, 20), (41, 48), (52, 52)],
    }
    for name, counts in of_classes.items():
        for found, (hits, trials) in zip(result.by_class(name), counts, strict=True):
            expected = intervals.wilson(hits / trials, trials)
            np.testing.assert_allclose([found.low, found.high], expected)
    low, high = intervals.wilson(33 / 46, 46)  # F* of the first class: 33 of 40 + 39 - 33
    f1, accuracy = result["f1", "akiec"], result["accuracy"]
    np.testing.assert_allclose([f1.low, f1.high], [2 * low / (1 + low), 2 * high / (1 + high)])
    expected = intervals.wilson(47 / 60, 60)
    np.testing.assert_allclose([accuracy.low, accuracy.high], expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 12), st.integers(1, 3), st.integers(2, 5))
def test_estimates_lie_in_their_intervals_or_are_nan_throughout(seed, images, groups, replicates, classes):
    tables = _random_replicates(np.random.default_rng(seed), images, groups, replicates, classes)
    for estimate in _estimates(evaluate(tables, resamples=20)):
        values = (estimate.low, estimate.value, estimate.high)
        if np.isnan(values).any():
            assert np.isnan(values).all()
            assert estimate.n == 0
        else:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
            assert estimate.low < estimate.high


def test_copies_of_a_replicate_change_nothing():
    table = _random_replicates(np.random.default_rng(1))[0]
    once, thrice = evaluate([table], resamples=200), evaluate([table] * 3, resamples=200)
    for one, three in zip(_estimates(once), _estimates(thrice), strict=True):
        np.testing.assert_allclose(dataclasses.astuple(one), dataclasses.astuple(three))
    assert (once.replicates, thrice.replicates) == (1, 3)


def test_order_of_images_and_names_of_groups_do_not_matter():
    tables = _random_replicates(np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(len(tables[0]))
    shuffled = [
        dataclasses.replace(
            t, **{k: getattr(t, k)[order] for k in ("image", "group", "target", "fold", "logits")}
        )
        for t in tables[:1]
    ] + tables[1:]
    renamed = [dataclasses.replace(t, group=np.char.add("g", t.group)) for t in shuffled]
    expected = _estimates(evaluate(tables, resamples=100))
    assert_close(_estimates(evaluate(shuffled, resamples=100)), expected)
    assert_close(_estimates(evaluate(renamed, resamples=100)), expected)


def test_the_seed_moves_the_bootstrap_and_nothing_else():
    tables = _random_replicates(np.random.default_rng(4), images=200, groups=15)
    first, again, other = (evaluate(tables, resamples=200, seed=seed) for seed in (0, 0, 1))
    assert _estimates(first) == _estimates(again)
    moved = {key for key, found in first.estimates.items() if found != other.estimates[key]}
    assert moved <= {("macro_f1", ""), ("mcc", "")}
    assert first.classes == other.classes


def test_clustered_images_widen_the_intervals():
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(30), 6)
    target = np.repeat(np.arange(30) % 3, 6)
    predicted = np.where(np.repeat(rng.random(30) < 0.7, 6), target, (target + 1) % 3)
    grouped, plain = (evaluate([_table(target, predicted, g)]) for g in (group, None))
    for wide, narrow in zip(_estimates(grouped), _estimates(plain), strict=True):
        assert wide.value == pytest.approx(narrow.value)
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_copies_of_images_in_a_group_do_not_narrow_an_interval():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 120)
    predicted = np.where(rng.random(120) < 0.7, target, rng.integers(0, 3, 120))
    once = evaluate([_table(target, predicted)])
    copied = evaluate([_table(np.repeat(target, 4), np.repeat(predicted, 4), np.repeat(np.arange(120), 4))])
    for one, four in zip(_estimates(once), _estimates(copied), strict=True):
        assert one.value == pytest.approx(four.value)
        assert four.high - four.low > 0.95 * (one.high - one.low)


def test_all_right_keeps_a_width_that_shrinks_with_groups():
    few = evaluate([_table([0, 1, 2] * 4, [0, 1, 2] * 4)])
    many = evaluate([_table([0, 1, 2] * 40, [0, 1, 2] * 40)])
    for small, large in zip(_estimates(few), _estimates(many), strict=True):
        assert small.value == large.value == small.high == 1
        assert small.low < large.low < 1


def test_all_wrong_is_zero_with_a_width():
    result = evaluate([_table([0, 1, 2] * 4, [1, 2, 0] * 4)])
    for estimate in _estimates(result, ("recall", "precision", "f1")):
        assert estimate.value == estimate.low == 0
        assert 0 < estimate.high < 1


def test_one_class_present():
    result = evaluate([_table([1] * 10, [1] * 8 + [0] * 2)], resamples=50)
    absent_but_predicted, present, nowhere = NAMES
    recall = result["recall", present]
    assert result["balanced_accuracy"].value == recall.value == 0.8
    assert result["macro_f1"].value == result["f1", present].value == pytest.approx(16 / 18)
    assert np.isnan(result["recall", absent_but_predicted].value)
    precision = result["precision", absent_but_predicted]
    assert (precision.value, precision.n) == (0, 2)
    assert np.isnan(result["f1", absent_but_predicted].value)
    assert np.isnan([result[name, nowhere].value for name in ("recall", "precision", "f1")]).all()
    # With one class there is nothing to average: the interval is that of its recall.
    assert dataclasses.astuple(result["balanced_accuracy"]) == pytest.approx(dataclasses.astuple(recall))
    assert [(one.value, one.n) for one in result.by_class("npv")] == [(1, 8), (0, 2), (1, 10)]


def test_precision_is_a_mean_over_the_replicates_that_predict_the_class():
    target = [0, 0, 1, 1]
    result = evaluate([_table(target, [0, 0, 0, 0]), _table(target, [0, 1, 1, 0])], resamples=50)
    assert (result["precision", "bcc"].value, result["precision", "bcc"].n) == (0.5, 2)
    # All images are predicted as the first class once, half of them twice.
    assert (result["npv", "akiec"].value, result["npv", "akiec"].n) == (0.5, 2)


def test_one_image():
    result = evaluate([_table([2], [2])], resamples=50)
    assert (result.n, result.groups, result["accuracy"].value) == (1, 1, 1.0)
    assert result["accuracy"].low == pytest.approx(intervals.wilson(1.0, 1)[0])


def test_one_group_counts_as_one_image():
    result = evaluate([_table([0, 0, 0, 1], [0, 1, 0, 1], ["p"] * 4)], resamples=50)
    accuracy = result["accuracy"]
    np.testing.assert_allclose([accuracy.low, accuracy.high], intervals.wilson(0.75, 1))


def _changed(table, **columns):
    return dataclasses.replace(table, **columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: _changed(t, image=np.char.add(t.image, "x")), "same image column"),
        (lambda t: _changed(t, group=np.char.add(t.group, "x")), "same group column"),
        (lambda t: _changed(t, target=(t.target + 1) % 3), "same target column"),
        (lambda t: _changed(t, class_names=NAMES[::-1]), "expected classes"),
    ],
)
def test_replicates_over_different_images_are_refused(change, message):
    table = _table([0, 1, 2], [0, 1, 2])
    with pytest.raises(ValueError, match=message):
        evaluate([table, change(table)])


def test_nothing_to_evaluate_is_refused():
    for replicates in ([], [_table([], np.zeros(0, dtype=np.int64))]):
        with pytest.raises(ValueError, match="at least one image"):
            evaluate(replicates)


def test_every_resample_keeps_the_rarest_class_of_each_group(monkeypatch):
    # Two patients hold all of class 2, next to class 0; a resample without them would be of other classes.
    drawn = {}
    monkeypatch.setattr(
        bootstrap,
        "group_bootstrap",
        lambda tables, strata, *_, **__: drawn.update(s=strata) or (np.zeros(2), np.ones(2)),
    )
    target = [0, 0, 0, 1, 1, 0, 0, 2, 0, 2]
    evaluate([_table(target, target, list("aabbccddee"))])
    assert drawn["s"].tolist() == [0, 1, 1, 2, 2]


def test_speed_of_a_real_study():
    tables = _random_replicates(np.random.default_rng(6), images=4000, groups=3000, replicates=1, classes=7)
    evaluate(tables)
    start = time.perf_counter()
    evaluate(tables)
    # About 0.05 s on one core; the bound leaves room for a busy machine.
    assert time.perf_counter() - start < 2
