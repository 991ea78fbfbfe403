from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats
from sklearn.metrics import average_precision_score

from tametail.evaluation import evaluate_labels
from tametail.evaluation.paired_labels import compare_labels, paired_label_table
from tametail.evaluation.ranking_metrics import precision_and_influence
from tametail.predictions.multi_label import LabelPredictions

LABELS = ("effusion", "mass", "nodule")


def table(
    seed: int,
    *,
    n: int = 240,
    separation: float = 1.5,
    groups: int = 80,
    other: int = 0,
    unknown: float = 0.0,
) -> LabelPredictions:
    """Images, groups and labels of ``seed``; scores of the model ``other``."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < [0.3, 0.15, 0.08]
    group = rng.integers(0, groups, n)
    hidden = rng.random((n, 3)) < unknown
    shared, own = rng.standard_normal((n, 3)), np.random.default_rng([seed, other]).standard_normal((n, 3))
    logits = (labels * separation + 0.8 * shared + 0.6 * own).astype(np.float32)
    image = np.array([f"{index:04d}" for index in range(n)])
    fold = np.arange(n) % 2
    seen = labels & ~hidden
    return LabelPredictions(
        image, group.astype(str), seen, fold, logits, LABELS, special.expit(logits), hidden
    )


@pytest.mark.parametrize("tied", [False, True])
def test_influence_is_the_derivative_of_scikit_learns_average_precision(tied: bool) -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(50) < 0.3
    score: NDArray[np.float64] = rng.normal(size=50) + positive
    score = np.round(score) if tied else score
    precision, influence = precision_and_influence(positive, score)
    assert precision.mean() == pytest.approx(average_precision_score(positive, score), abs=1e-12)
    assert influence.sum() == pytest.approx(0.0, abs=1e-12)
    for index in range(50):
        weights = np.ones(50)
        both = []
        for change in (1e-5, -1e-5):
            weights[index] = 1 + change
            both.append(average_precision_score(positive, score, sample_weight=weights))
        assert influence[index] == pytest.approx((both[0] - both[1]) / 2e-5, abs=1e-7)


def test_differences_are_those_of_mean_and_label_average_precision() -> None:
    a, b = table(0, unknown=0.2), table(0, other=1, separation=0.8, unknown=0.2)
    found = {name: evaluate_labels([each]) for name, each in (("a", a), ("b", b))}
    pair = paired_label_table({"a": [a], "b": [b]}).pair(0, 1)
    difference = found["a"].score.value - found["b"].score.value
    assert pair.difference.value == pytest.approx(difference, abs=1e-12)
    assert pair.difference.n == len(a)
    for test in compare_labels({"a": [a], "b": [b]})["b"]:
        metric = ("average_precision", test.name)
        assert test.difference.value == pytest.approx(
            found["a"][metric].value - found["b"][metric].value, abs=1e-12
        )
        assert test.n == int(a.labels[:, LABELS.index(test.name)].sum())


def test_unknown_labels_are_those_of_the_subset() -> None:
    a, b = table(1, unknown=0.3), table(1, other=1, unknown=0.3)
    tests = compare_labels({"a": [a], "b": [b]})["b"]
    for at, test in enumerate(tests):
        alone = []
        for each in (a, b):
            kept = each.take(each.known[:, at])
            column = slice(at, at + 1)
            parts = kept.labels[:, column], kept.logits[:, column], kept.posterior[:, column]
            alone.append(
                LabelPredictions(
                    kept.image, kept.group, parts[0], kept.fold, parts[1], (LABELS[at],), parts[2]
                )
            )
        own = compare_labels({"a": [alone[0]], "b": [alone[1]]})["b"][0]
        assert (own.difference.value, own.p) == pytest.approx((test.difference.value, test.p), abs=1e-12)


def test_swapping_the_models_changes_the_sign_alone() -> None:
    a, b = table(2), table(2, other=1, separation=1.0)
    forward = paired_label_table({"a": [a], "b": [b]}).pair(0, 1)
    backward = paired_label_table({"b": [b], "a": [a]}).pair(0, 1)
    assert backward.difference.value == pytest.approx(-forward.difference.value, abs=1e-15)
    assert backward.difference.low == pytest.approx(-forward.difference.high, abs=1e-12)
    assert backward.p == pytest.approx(forward.p, abs=1e-12)


def test_a_model_does_not_differ_from_itself_or_from_a_growing_function_of_it() -> None:
    a = table(4)
    moved = replace(a, logits=(3 * a.logits + 1).astype(np.float32))
    pair = paired_label_table({"a": [a], "b": [moved]}).pair(0, 1)
    assert (pair.difference.value, pair.p, pair.verdict) == (0.0, 1.0, "no significant difference")
    tests = compare_labels({"a": [a], "b": [moved]})["b"]
    assert all((test.only_a, test.only_b, test.p) == (0, 0, 1.0) for test in tests)


def test_p_and_interval_agree() -> None:
    for seed in range(20):
        a, b = table(seed), table(seed, other=1, separation=1.2)
        pair = paired_label_table({"a": [a], "b": [b]}).pair(0, 1)
        excludes = pair.difference.low > 0 or pair.difference.high < 0
        assert excludes == (pair.p < 0.05)


def test_a_clear_difference_is_found_and_a_label_without_positives_is_absent() -> None:
    a, b = table(5, n=900, groups=300, separation=2.5), table(5, n=900, groups=300, other=1, separation=0.5)
    none = np.array([True, True, False])
    a, b = (replace(each, labels=each.labels & none) for each in (a, b))
    assert paired_label_table({"a": [a], "b": [b]}).pair(0, 1).verdict == "better"
    effusion, mass, nodule = compare_labels({"a": [a], "b": [b]})["b"]
    assert [effusion.verdict, mass.verdict, nodule.verdict] == ["better", "better", "absent"]
    assert np.isnan(nodule.p)
    assert mass.p_holm == pytest.approx(max(effusion.p * 2, mass.p) if effusion.p < mass.p else 2 * mass.p)


def test_false_alarms_of_equal_models_are_rare_and_copies_of_images_do_not_change_p() -> None:
    alarms = 0
    for seed in range(150):
        pair = paired_label_table({"a": [table(seed, other=1)], "b": [table(seed, other=2)]}).pair(0, 1)
        alarms += pair.verdict != "no significant difference"
    assert alarms <= stats.binom.ppf(0.999, 150, 0.05)
    a, b = table(9), table(9, other=1)
    single = paired_label_table({"a": [a], "b": [b]}).pair(0, 1)
    twice = paired_label_table({"a": [doubled(a)], "b": [doubled(b)]}).pair(0, 1)
    assert twice.p == pytest.approx(single.p, rel=0.05)


def doubled(one: LabelPredictions) -> LabelPredictions:
    """Every image twice, in the same group."""
    again = replace(one, image=np.array([f"{name}b" for name in one.image]))
    both = {name: np.concatenate([values, again.arrays[name]]) for name, values in one.arrays.items()}
    return replace(one, **both).sorted_by_image()


def test_no_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="expected predictions of 'b', got none"):
        paired_label_table({"a": [table(0)], "b": []})
    empty = replace(table(0), labels=np.zeros((240, 3), dtype=bool))
    with pytest.raises(ValueError, match="expected a label with positive and negative images, got none"):
        paired_label_table({"a": [empty]})
