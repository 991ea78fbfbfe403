from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as sklearn

from fixtures.made_up import made_up
from tametail.evaluation import evaluate, evaluate_labels
from tametail.evaluation.label_thresholds import out_of_fold_thresholds
from tametail.evaluation.subgroups import in_ranges, label_subgroups, subgroups
from tametail.predictions.multi_label import LabelPredictions


def test_each_value_is_evaluated_by_itself() -> None:
    table = made_up()
    site = np.array(["north", "south"])[np.arange(240) // 60 % 2]
    found = subgroups([table], site, "site", resamples=50)
    assert [(one.column, one.value, one.n, one.groups) for one in found] == [
        ("site", "north", 120, 60),
        ("site", "south", 120, 60),
    ]
    for one in found:
        rows = site == one.value
        target, predicted = table.target[rows], table.predicted[rows]
        assert one["accuracy"].value == pytest.approx(sklearn.accuracy_score(target, predicted))
        assert one["balanced_accuracy"].value == pytest.approx(
            sklearn.balanced_accuracy_score(target, predicted)
        )
        assert one["macro_f1"].value == pytest.approx(sklearn.f1_score(target, predicted, average="macro"))
        assert not one.small


def test_one_value_is_the_whole() -> None:
    table = made_up()
    (one,) = subgroups([table, table], np.full(240, "all"), "x", resamples=50)
    whole = evaluate([table, table], resamples=50)
    assert one.estimates == {name: whole[name] for name in ("balanced_accuracy", "macro_f1", "accuracy")}


def test_absent_classes_are_named_and_small_subgroups_marked() -> None:
    table = made_up()
    value = np.where(table.target == 0, "b", "a").astype("U4")
    value[np.flatnonzero(table.target == 1)[:3]] = "tiny"
    found = {one.value: one for one in subgroups([table], value, "x", resamples=50)}
    assert found["b"].absent == ("bcc", "mel")
    assert found["tiny"].absent == ("akiec", "mel")
    assert [found[name].small for name in ("a", "b", "tiny")] == [False, False, True]
    assert found["tiny"].n == 3


def test_values_go_with_their_images_whatever_the_order() -> None:
    table = made_up()
    value = np.array(["u", "v", "w"])[np.arange(240) % 3]
    rows = np.random.default_rng(0).permutation(240)
    names = ("image", "group", "target", "fold", "logits", "posterior")
    mixed = dataclasses.replace(table, **{name: getattr(table, name)[rows] for name in names})
    assert subgroups([mixed, table], value[rows], "x", resamples=50) == subgroups(
        [table, table], value, "x", resamples=50
    )


def test_values_come_in_the_order_of_their_numbers_and_the_unknown_last() -> None:
    value = np.array(["10 to 20", "9 to 10", "", "old"])[np.arange(240) % 4]
    assert [one.value for one in subgroups([made_up()], value, "age", resamples=20)] == [
        "9 to 10",
        "10 to 20",
        "old",
        "",
    ]


def test_another_number_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 240 values of site"):
        subgroups([made_up()], np.array(["a"]), "site")


def test_many_numbers_become_four_ranges_that_hold_them_all() -> None:
    ages = np.random.default_rng(0).integers(1, 90, 400)
    ranged = in_ranges(ages.astype(np.str_))
    assert len(np.unique(ranged)) == 4
    for age, text in zip(ages, ranged, strict=True):
        low, high = (float(part) for part in text.split(" to "))
        assert low <= age <= high
    counts = [int((ranged == text).sum()) for text in np.unique(ranged)]
    assert max(counts) < 1.2 * min(counts)


@pytest.mark.parametrize(
    "values",
    [
        ["f", "m", ""] * 20,
        [str(number % 10) for number in range(60)],
        [f"site{number}" for number in range(60)],
        [str(number) for number in range(59)] + ["unknown"],
        [str(number) for number in range(59)] + ["inf"],
        [""] * 60,
    ],
)
def test_texts_and_few_numbers_stay_as_they_are(values: list[str]) -> None:
    np.testing.assert_array_equal(in_ranges(np.array(values)), values)


def test_what_is_not_known_is_in_no_range() -> None:
    values = np.array([str(number) if number % 4 else "" for number in range(100)])
    assert (in_ranges(values) == "").tolist() == (values == "").tolist()


def test_one_number_that_most_have_is_not_divided() -> None:
    values = np.array(["50"] * 80 + [str(number) for number in range(20)])
    ranged = in_ranges(values)
    assert len(set(ranged[:80].tolist())) == 1


def test_subgroups_of_labels_are_evaluated_on_their_images_at_the_thresholds_of_all() -> None:
    rng = np.random.default_rng(0)
    n, names = 300, ("effusion", "mass")
    labels = rng.random((n, 2)) < [0.4, 0.2]
    logits = (2 * labels + rng.normal(size=(n, 2))).astype(np.float32)
    image = np.array([f"{index:03d}" for index in range(n)])
    fold, p = np.arange(n) % 3, (1 / (1 + np.exp(-logits))).astype(np.float32)
    table = LabelPredictions(image, image, labels, fold, logits, names, p)
    site = np.where(np.arange(n) < 100, "a", "b")
    site[-4:] = ""
    found = {one.value: one for one in label_subgroups([table, table], site, "site")}
    assert list(found) == ["a", "b", ""]
    assert found[""].small
    whole = evaluate_labels([table])
    (everything,) = label_subgroups([table], np.full(n, "all"), "x")
    assert everything.estimates == {
        name: whole[name] for name in ("mean_average_precision", "macro_auroc", "macro_f1")
    }
    thresholds = out_of_fold_thresholds(table)
    for value in ("a", "b"):
        rows = site == value
        decided = p[rows] >= thresholds[rows]
        expected = sklearn.f1_score(labels[rows], decided, average="macro")
        assert found[value]["macro_f1"].value == pytest.approx(expected)
        expected = sklearn.average_precision_score(labels[rows], logits[rows], average="macro")
        assert found[value]["mean_average_precision"].value == pytest.approx(expected)
        assert found[value].n == rows.sum()
    lacking = table.take(np.arange(20))
    lacking = dataclasses.replace(lacking, labels=lacking.labels & [True, False])
    (few,) = label_subgroups([lacking], np.full(20, "x"), "y")
    assert few.absent == ("mass",)
