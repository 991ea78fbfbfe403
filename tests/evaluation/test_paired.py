"""Paired comparisons against brute force; what must not matter; extremes; intervals that hold."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from fixtures.close import assert_close
from fixtures.random_models import random_models, table
from fixtures.statsmodels_holm import holm_by_statsmodels
from tametail.evaluation import evaluate
from tametail.evaluation.paired import (
    Paired,
    against_one,
    describe,
    difference_limits,
    difference_standard_error,
    paired_table,
)
from tametail.evaluation.significance import permutation_p


def _reference_balanced_accuracy(tables, swapped=(), others=()):
    """Mean over replicates, after the groups ``swapped`` took their predictions from ``others``."""
    scores = []
    for own, other in zip(tables, others or tables, strict=True):
        taken = np.where(np.isin(own.group, list(swapped)), other.predicted, own.predicted)
        present = np.unique(own.target)
        scores.append(np.mean([(taken == own.target)[own.target == c].mean() for c in present]))
    return np.mean(scores)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 3), st.integers(1, 5))
@example(9, 6, 2, 5)  # sums of small sizes that are equal on paper, and differ by their rounding
def test_p_is_that_of_models_exchanged_group_by_group(seed, groups, replicates, classes):
    models = random_models(seed, 25, groups, classes, (replicates, replicates))
    a, b = models.values()
    names = np.unique(a[0].group)

    def difference(swapped):
        return _reference_balanced_accuracy(a, swapped, b) - _reference_balanced_accuracy(b, swapped, a)

    observed = difference(())
    chosen = [names[list(bits)] for bits in product((False, True), repeat=len(names))]
    expected = np.mean([abs(difference(swapped)) >= abs(observed) - 1e-9 for swapped in chosen])
    found = paired_table(models).pair(0, 1)
    assert found.p == pytest.approx(expected)
    assert found.difference.value == pytest.approx(observed, abs=1e-12)
    assert (found.groups, found.difference.n) == (len(names), 25)


def test_the_difference_is_scikit_learns_and_that_of_evaluate():
    models = random_models(3, 200, 50, 4, (3, 2))
    means = [
        np.mean([balanced_accuracy_score(t.target, t.predicted) for t in tables])
        for tables in models.values()
    ]
    found = paired_table(models).pair(0, 1).difference
    assert found.value == pytest.approx(means[0] - means[1])
    of_evaluate = [evaluate(tables, resamples=2)["balanced_accuracy"].value for tables in models.values()]
    assert found.value == pytest.approx(of_evaluate[0] - of_evaluate[1])


def test_holm_over_all_pairs_and_every_pair_both_ways():
    models = random_models(4, 300, 120, 4, (1, 2, 1, 3), (0.9, 0.6, 0.58, 0.75))
    found = paired_table(models, resamples=2000)
    assert found.names == ("m0", "m1", "m2", "m3")
    pairs = [found.pair(i, j) for i in range(4) for j in range(i + 1, 4)]
    assert pairs == list(found.pairs)
    expected = holm_by_statsmodels([pair.p for pair in pairs])
    np.testing.assert_allclose([pair.p_holm for pair in pairs], expected)
    assert {pair.verdict for pair in pairs} == {"better", "no significant difference", "worse"}
    for i, j in product(range(4), repeat=2):
        if i == j:
            with pytest.raises(ValueError, match="different models"):
                found.pair(i, j)
            continue
        one, other = found.pair(i, j), found.pair(j, i)
        assert one == other.reversed()
        assert (one.p, one.p_holm, one.required_sample_size) == (
            other.p,
            other.p_holm,
            other.required_sample_size,
        )
        assert one.difference.low == -other.difference.high
        assert (one.verdict == "better") == (other.verdict == "worse")
        assert (one.required_sample_size == 0) == (one.verdict != "no significant difference")
    with pytest.raises(ValueError, match=r"0\.\.3"):
        found.pair(0, 4)


def test_order_of_images_names_of_groups_and_other_models_do_not_matter():
    models = random_models(5, 300, 100, 4, (2, 1, 1), (0.7, 0.65, 0.6))
    order = np.random.default_rng(0).permutation(300)

    def changed(t):
        columns = {name: getattr(t, name)[order] for name in ("image", "group", "target", "fold", "logits")}
        columns["group"] = np.array([f"patient {(7 * int(name)) % 101} {name}" for name in columns["group"]])
        return dataclasses.replace(t, **columns)

    expected = paired_table(models)
    found = paired_table({name: [changed(t) for t in tables] for name, tables in models.items()})
    for one, other in zip(found.pairs, expected.pairs, strict=True):
        assert_close(one, other)
    backwards = paired_table(dict(reversed(models.items())))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert_close(backwards.pair(2 - i, 2 - j), expected.pair(i, j))
    alone = paired_table({name: models[name] for name in ("m0", "m2")}).pair(0, 1)
    assert_close((alone.p, alone.difference), (expected.pair(0, 2).p, expected.pair(0, 2).difference))
    assert paired_table(models, seed=1).pair(0, 1).p != expected.pair(0, 1).p


def test_copies_of_a_replicate_and_of_images_in_their_group_change_no_p():
    rng = np.random.default_rng(6)
    target, group = rng.integers(0, 3, 80), np.arange(80)
    right = {name: rng.random(80) < skill for name, skill in (("a", 0.8), ("b", 0.65))}
    once = {name: [table(target, r, group)] for name, r in right.items()}
    thrice = {name: tables * 3 for name, tables in once.items()}
    copied = {
        name: [table(np.repeat(target, 4), np.repeat(r, 4), np.repeat(group, 4))] for name, r in right.items()
    }
    one, same, four = (paired_table(models).pair(0, 1) for models in (once, thrice, copied))
    assert_close(same, one)
    assert four.p == pytest.approx(one.p)
    assert four.difference.value == pytest.approx(one.difference.value)
    assert four.difference.high - four.difference.low > 0.99 * (one.difference.high - one.difference.low)


def test_identical_models_do_not_differ_significantly_and_keep_a_width():
    models = random_models(7, 50, 20)
    found = paired_table({"a": models["m0"], "b": models["m0"]}).pair(0, 1)
    assert (found.difference.value, found.p, found.verdict, found.required_sample_size) == (
        0,
        1,
        "no significant difference",
        None,
    )
    assert found.discordant == 0
    assert found.difference.low == -found.difference.high < 0


def test_all_right_against_all_wrong():
    target = np.arange(60) % 3
    found = paired_table({"a": [table(target, np.ones(60))], "b": [table(target, np.zeros(60))]}).pair(0, 1)
    assert (found.difference.value, found.difference.high, found.verdict, found.required_sample_size) == (
        1,
        1,
        "better",
        0,
    )
    assert 0.85 < found.difference.low < 1
    assert found.discordant == 60
    few = paired_table({"a": [table([0] * 5, [1] * 5)], "b": [table([0] * 5, [0] * 5)]}).pair(0, 1)
    assert (few.p, few.verdict) == (
        pytest.approx(2 / 32),
        "no significant difference",
    )  # five images cannot tell, whatever they say


def test_one_group_tells_nothing():
    target = np.arange(60) % 3
    group = np.zeros(60)
    found = paired_table({n: [table(target, np.full(60, r), group)] for n, r in (("a", 1), ("b", 0))}).pair(
        0, 1
    )
    assert (found.p, found.verdict, found.groups) == (1, "no significant difference", 1)
    assert found.difference.low < 0.5


def test_an_absent_class_takes_no_part():
    rng = np.random.default_rng(8)
    target = rng.choice([0, 2], 60)
    right = {name: rng.random(60) < 0.7 for name in "ab"}
    with_absent = {name: [table(target, r, classes=4)] for name, r in right.items()}
    without = {name: [table(target // 2, r, classes=2)] for name, r in right.items()}
    assert paired_table(with_absent) == paired_table(without)


def test_a_single_model_has_no_pairs():
    assert paired_table({"a": random_models(9)["m0"]}).pairs == ()


def test_what_cannot_be_compared_is_refused():
    models = random_models(10)
    with pytest.raises(ValueError, match="'b', got none"):
        paired_table({"a": models["m0"], "b": []})
    with pytest.raises(ValueError, match="at least one"):
        paired_table({})
    renamed = dataclasses.replace(table([0, 1], [1, 1]), image=np.array(["x", "y"]))
    with pytest.raises(ValueError, match="same image"):
        paired_table({"a": [table([0, 1], [1, 1])], "b": [renamed]})


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12), st.integers(1, 5))
def test_the_interval_holds_the_difference(seed, images, groups, classes):
    d = paired_table(random_models(seed, images, groups, classes, (2, 1)), resamples=20).pair(0, 1).difference
    assert -1 <= d.low <= d.value <= d.high <= 1
    assert d.low < d.high


def test_one_class_of_single_images_is_bonett_and_prices_interval():
    # 12 and 5 discordant of 40, with one imagined image to each side; n / (n - 1) is ours.
    differences = np.array([1.0] * 12 + [-1.0] * 5 + [0.0] * 23)
    found = difference_limits(differences, np.ones(40), np.arange(40), np.zeros(40, dtype=int))
    centre = 7 / 42
    variance = ((17 - 40 * (7 / 40) ** 2) * 40 / 39 + 2) / 42**2
    np.testing.assert_allclose(
        found, [centre - 1.959964 * variance**0.5, centre + 1.959964 * variance**0.5], rtol=1e-6
    )


def test_the_standard_error_is_the_scatter_of_the_difference():
    rng = np.random.default_rng(5)
    target = np.repeat(np.arange(3), [200, 100, 50])
    a, b = np.array([0.9, 0.7, 0.6])[target], np.array([0.8, 0.7, 0.5])[target]
    values, errors = [], []
    for _ in range(400):
        differences = (rng.random(len(target)) < a) * 1.0 - (rng.random(len(target)) < b)
        values.append(np.mean([differences[target == code].mean() for code in range(3)]))
        errors.append(
            difference_standard_error(differences, np.ones(len(target)), np.arange(len(target)), target)
        )
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1)  # the scatter is known to 4 %


def test_either_way_round_the_standard_error_is_theassert_close():
    pairs = paired_table(random_models(3, 30, 12, 3, (2, 1)), resamples=20)
    assert pairs.pair(1, 0).standard_error == pairs.pair(0, 1).standard_error > 0


def _reference_moments(hypothesis, differences, images, group, of_class):
    """Centre and standard error under a hypothetical difference, class by class and cell by cell."""
    classes, cells = sorted(set(of_class)), range(len(of_class))
    rate = sum((differences[k] / images[k]) ** 2 for k in cells) / len(of_class)
    rate += len(classes) * abs(hypothesis)
    proportion = 1.0 if rate >= 1 / 3 else 2 * rate / (1 - rate)
    added = min(4 / len(classes), 2)
    degrees = max(len(set(group)) - 1, 1), max(sum(images) - 1, 1)
    few = max(1.0, stats.t.ppf(0.975, degrees[0]) / stats.t.ppf(0.975, degrees[1]))
    centre, imagined, residuals = 0.0, 0.0, {}
    for code in classes:
        own = [k for k in cells if of_class[k] == code]
        n, groups = sum(images[k] for k in own), len(own)
        mean = sum(differences[k] for k in own) / n
        discordant = min(added, max(added * proportion, 2 * groups / len(of_class)))
        centre += mean * groups / (groups + discordant) / len(classes)
        imagined += discordant / ((groups + added) * len(classes)) ** 2
        for k in own:
            residual = (differences[k] - images[k] * mean) * groups / (n * (groups + added) * len(classes))
            residuals.setdefault(group[k], []).append(few * residual * (groups / max(groups - 1, 1)) ** 0.5)
    clustered = sum(sum(of_group) ** 2 for of_group in residuals.values())
    independent = sum(residual**2 for of_group in residuals.values() for residual in of_group)
    return centre, (max(clustered, independent) + imagined) ** 0.5


def _cells(seed):
    """Cells of some patients and classes; a few differences, as of models that agree often."""
    rng = np.random.default_rng(seed)
    patients, classes = int(rng.integers(6, 60)), int(rng.integers(1, 8))
    codes = np.unique(np.concatenate([rng.integers(0, patients * classes, 3 * patients), np.arange(classes)]))
    images = rng.integers(1, 4, len(codes)).astype(float)
    differences = rng.binomial(1, 0.15, len(codes)) * rng.choice([-1, 1], len(codes), p=[0.3, 0.7]) * images
    group = np.unique(codes // classes, return_inverse=True)[1]
    return differences, images, group, codes % classes


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_the_interval_holds_what_is_within_its_own_standard_errors(seed):
    cells = _cells(seed)
    value = np.mean([cells[0][cells[3] == c].sum() / cells[1][cells[3] == c].sum() for c in set(cells[3])])

    def holds(hypothesis):
        centre, error = _reference_moments(hypothesis, *cells)
        return abs(hypothesis - centre) <= 1.959964 * error

    assert difference_standard_error(*cells) == pytest.approx(_reference_moments(0.0, *cells)[1])
    low, high = difference_limits(*cells)
    assert (low <= 0 <= high) == holds(0.0)
    for limit, outwards in ((low, -1), (high, 1)):
        if limit not in (-1, 1) and abs(limit - value) > 1e-5:
            assert holds(limit - 1e-6 * outwards)
            assert not holds(limit + 1e-6 * outwards)


def test_no_class_of_three_images_hides_what_all_others_show():
    """Of 300 images 14 are classified correctly by one model alone, none of the rarest class."""
    target = np.repeat(np.arange(7), [188, 31, 31, 29, 14, 4, 3])
    differences = np.zeros(300)
    differences[[5, 50, 100, 150, 190, 200, 215, 220, 230, 240, 255, 260, 280, 285]] = 1
    low, _ = _limits(differences, target)
    assert low > 0
    # With two thirds as many again in either direction, a class of three images may differ too.
    differences[np.flatnonzero(differences == 0)[::3]] = -1
    differences[np.flatnonzero(differences == 0)[::2]] = 1
    low, high = _limits(differences, target)
    assert low < 0 < high


def test_where_the_models_agree_on_all_images_few_more_would_be_discordant():
    """Up to 3 / n are discordant (the rule of three), and the difference is smaller than that of Price and Bonett."""
    target = np.repeat(np.arange(7), [188, 31, 31, 29, 14, 4, 3])
    error = difference_standard_error(np.zeros(300), np.ones(300), np.arange(300), target)
    n, added = np.bincount(target), 4 / 7
    assert 3 / 300 / 1.96 < error < 0.3 * (added / (n + added) ** 2).sum() ** 0.5 / 7


def test_patients_who_cost_every_class_widen_the_interval():
    rng = np.random.default_rng(11)
    target = np.tile(np.arange(3), 40)
    patient = np.repeat(np.arange(40), 3)
    worse = np.repeat(rng.random(40) < 0.3, 3)
    models = {"a": [table(target, np.ones(120), patient)], "b": [table(target, ~worse, patient)]}
    ungrouped = {
        name: [dataclasses.replace(t, group=t.image) for t in tables] for name, tables in models.items()
    }
    grouped, single = (paired_table(m).pair(0, 1).difference for m in (models, ungrouped))
    assert grouped.value == pytest.approx(single.value)
    assert grouped.high - grouped.low > 1.4 * (single.high - single.low)


def _simulated(rng, counts, a, b, agreement):
    """Differences and targets of models with these recalls that have the same luck for a share of the images."""
    target = np.repeat(np.arange(len(counts)), counts)
    luck = np.where(
        rng.random(len(target)) < agreement, rng.random(len(target)), rng.random((2, len(target)))
    )
    return (luck[0] < np.asarray(a)[target]) * 1.0 - (luck[1] < np.asarray(b)[target]), target


def _limits(differences, target):
    return difference_limits(differences, np.ones(len(target)), np.arange(len(target)), target)


def _p(differences, target):
    return permutation_p(differences / np.bincount(target)[target], resamples=500)


@pytest.mark.parametrize(
    ("counts", "a", "b"),
    [
        ([60, 30, 10, 4, 4], [0.95, 0.9, 0.8, 0.9, 0.95], [0.95, 0.85, 0.7, 0.6, 0.6]),
        ([4] * 8, [0.8] * 8, [0.6] * 8),
        ([300, 200, 11, 6, 4], [0.9, 0.8, 0.4, 0.8, 0.9], [0.9, 0.85, 0.3, 0.6, 0.6]),
        ([100, 4], [0.9, 0.6], [0.8, 0.7]),
    ],
)
@pytest.mark.parametrize("agreement", [0.0, 0.8])
def test_the_interval_holds_the_truth_where_classes_are_rare(counts, a, b, agreement):
    rng = np.random.default_rng(13)
    limits = np.array([_limits(*_simulated(rng, counts, a, b, agreement)) for _ in range(300)])
    truth = np.mean(np.subtract(a, b))
    # The standard error of 0.95 is 0.013.
    assert np.mean((limits[:, 0] <= truth) & (truth <= limits[:, 1])) > 0.92


def test_false_alarms_of_the_test_and_why_a_verdict_asks_the_interval_too():
    rng = np.random.default_rng(14)
    alike = [
        _simulated(rng, [60, 30, 10, 4, 4], recall, recall, 0.3)
        for recall in [[0.9, 0.8, 0.7, 0.8, 0.6]] * 600
    ]
    assert np.mean([_p(*drawn) <= 0.05 for drawn in alike]) < 0.065
    # Equal balanced accuracies; what is lost on 100 images is won on four.
    drawn = [_simulated(rng, [100, 4], [0.9, 0.6], [0.8, 0.7], 0.5) for _ in range(300)]
    cancel = [(_p(*one), *_limits(*one)) for one in drawn]
    assert np.mean([p <= 0.05 for p, _, _ in cancel]) > 0.15
    assert np.mean([p <= 0.05 and not low <= 0 <= high for p, low, high in cancel]) < 0.02


_SKIN = [188, 31, 31, 29, 14, 4, 3]


@pytest.mark.parametrize(
    ("shift", "agreement", "least", "most"),
    [
        # 5 points more in each class: Price and Bonett's interval excludes 0 in 2 to 4 %, a test that knows the rates in
        # 14 to 28 %.
        (np.full(7, 0.05), 0.5, 0.09, 1),
        (np.full(7, 0.05), 0.95, 0.25, 1),
        # No difference, but 30 points in either direction in six classes.
        (0.3 * np.array([-1, -1, -1, 0, 1, 1, 1]), 0.95, 0, 0.09),
        (0.3 * np.array([0, -1, 1, -1, 1, -1, 1]), 0.5, 0, 0.05),
    ],
)
def test_a_verdict_has_power_where_models_agree_and_few_false_alarms(shift, agreement, least, most):
    rng = np.random.default_rng(15)
    recall = np.array([0.95, 0.7, 0.6, 0.5, 0.8, 0.8, 0.9]) if least else np.full(7, 0.8)
    drawn = [_simulated(rng, _SKIN, recall + shift / 2, recall - shift / 2, agreement) for _ in range(300)]
    limits = np.array([_limits(*one) for one in drawn])
    excluded = [one for one, (low, high) in zip(drawn, limits, strict=True) if not low <= 0 <= high]
    found = sum(_p(*one) <= 0.05 for one in excluded) / len(drawn)  # the standard error of 0.06 is 0.014
    assert least <= found <= most


def test_the_interval_excludes_0_exactly_if_the_pooled_rate_does():
    """Also where a hypothesis beyond 0, under which classes may differ more, would be within its standard errors."""
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(7), _SKIN)
    excluded = 0
    for _ in range(200):
        differences = (rng.random(300) < 0.04) * 1.0 - (rng.random(300) < 0.005)
        differences[-7:] = 0
        cells = differences, np.ones(300), np.arange(300), target
        centre, error = _reference_moments(0.0, *cells)
        low, high = difference_limits(*cells)
        assert (low <= 0 <= high) == (abs(centre) <= 1.959964 * error)
        excluded += not low <= 0 <= high
    assert 20 < excluded < 180


def test_the_images_that_are_asked_for_are_those_of_the_test_of_no_difference():
    target = np.repeat(np.arange(7), _SKIN)
    right = np.ones(300)
    right[[5, 200, 215, 240, 255]] = 0
    pair = paired_table(
        {"a": [table(target, np.ones(300), classes=7)], "b": [table(target, right, classes=7)]}
    )
    found = pair.pair(0, 1)
    assert found.verdict == "no significant difference"
    cells = 1 - right, np.ones(300), np.arange(300), target
    centre, error = _reference_moments(0.0, *cells)
    value = found.difference.value
    half = value - (centre - 1.959964 * error)
    by_interval = (half * (1 + 0.841621 / 1.959964) / value) ** 2
    by_test = (1.959964 + 0.841621) ** 2 * sum((1 - right) / (7 * np.array(_SKIN)[target]) ** 2) / value**2
    assert by_interval > by_test
    assert found.required_sample_size == pytest.approx(300 * (by_interval - 1), abs=1)


def test_no_number_of_models_hides_a_plain_difference():
    """Holm over 561 pairs of the lowest p that 10,000 draws can say would be 0.056."""
    models = random_models(4, 400, 400, 4, (1,) * 34, (0.95, *[0.3] * 33))
    found = paired_table(models)
    assert all(found.pair(0, other).verdict == "better" for other in range(1, 34))


def test_sentences():
    models = random_models(12, 400, 400, 4, (1, 1, 1), (0.9, 0.6, 0.6))
    found = paired_table(models)
    assert describe(found.pair(0, 1), "alpa", "ce").startswith("alpa is better than ce: +")
    assert describe(found.pair(1, 0), "ce", "alpa").startswith("ce is worse than alpa: -")
    assert describe(found.pair(0, 1), "alpa", "ce").endswith("p < 0.001.")
    assert "would make a difference of this size significant" in describe(found.pair(1, 2), "b", "c")
    same = paired_table({"a": models["m0"], "b": models["m0"]}).pair(0, 1)
    assert describe(same, "a", "b").endswith("no sample size would make this difference significant.")
    asked = dataclasses.replace(found.pair(1, 2), required_sample_size=12_301)
    assert isinstance(asked, Paired)
    assert "about 13,000 more" in describe(asked, "b", "c")


def test_one_model_against_each_other_is_corrected_for_these_comparisons_alone():
    models = random_models(7, 200, 80, 3, (1, 2, 1, 1), (0.7, 0.5, 0.6, 0.65))
    found, table_of_all = against_one(models, "m2"), paired_table(models)
    assert list(found) == ["m0", "m1", "m3"]
    for name, pair in found.items():
        expected = table_of_all.pair(2, int(name[1]))
        assert pair.difference == expected.difference
        assert pair.p == pytest.approx(expected.p)
    corrected = holm_by_statsmodels([pair.p for pair in found.values()])
    assert [pair.p_holm for pair in found.values()] == pytest.approx(corrected)
    assert against_one({"m0": models["m0"]}, "m0") == {}
    with pytest.raises(ValueError, match="expected one of m0, m1, m2, m3, got 'ce'"):
        against_one(models, "ce")
