from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn

from tametail.evaluation import ClassSize, Estimate, Evaluation, evaluate_labels
from tametail.evaluation.label_thresholds import (
    deployable_thresholds,
    macro_average_precision,
    out_of_fold_thresholds,
)
from tametail.predictions.multi_label import LabelPredictions, ensemble_labels


def make_table(
    rows: int = 300, classes: int = 4, seed: int = 0, skill: float = 1.5, per_group: int = 1
) -> LabelPredictions:
    labels = np.random.default_rng(99).random((rows, classes)) < np.geomspace(0.5, 0.05, classes)
    rng = np.random.default_rng(seed)
    z = np.round(rng.normal(-1, 1, (rows, classes)) + skill * labels, 1).astype(np.float32)  # with ties
    return table_of(labels, z, per_group)


def table_of(labels: np.ndarray, logits: np.ndarray, per_group: int = 1) -> LabelPredictions:
    rows, classes = labels.shape
    return LabelPredictions(
        np.array([f"{number:04}.png" for number in range(rows)]),
        np.array([f"p{number // per_group}" for number in range(rows)]),
        labels.astype(bool),
        np.arange(rows) // per_group % 5,
        logits.astype(np.float32),
        tuple(f"label{c}" for c in range(classes)),
        (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32),
    )


def is_undefined(estimate: Estimate) -> bool:
    return bool(np.isnan([estimate.value, estimate.low, estimate.high]).all())


@pytest.mark.parametrize("seed", range(5))
def test_a_random_table_agrees_with_sklearn(seed: int) -> None:
    table = make_table(seed=seed)
    found = evaluate_labels([table])
    truth, scored = table.labels, table.logits
    for c, label in enumerate(found.classes):
        assert found["auroc", label.name].value == pytest.approx(
            sklearn.roc_auc_score(truth[:, c], scored[:, c])
        )
        assert found["average_precision", label.name].value == pytest.approx(
            sklearn.average_precision_score(truth[:, c], scored[:, c])
        )
        assert (label.n, label.others) == (truth[:, c].sum(), (~truth[:, c]).sum())
    assert found["macro_auroc"].value == pytest.approx(sklearn.roc_auc_score(truth, scored))
    assert found["mean_average_precision"].value == pytest.approx(
        sklearn.average_precision_score(truth, scored)
    )
    assert found.score is found["mean_average_precision"]
    assert macro_average_precision(table) == pytest.approx(found.score.value)


@pytest.mark.parametrize("seed", range(3))
def test_decisions_agree_with_sklearn(seed: int) -> None:
    table = make_table(seed=seed)
    thresholds = np.array([0.3, 0.4, 0.2, 0.35])
    found = evaluate_labels([table], thresholds)
    for at, cuts in (("", thresholds), ("_at_half", 0.5)):
        truth, given = table.labels, table.posterior >= cuts
        overall = {
            "macro_f1": sklearn.f1_score(truth, given, average="macro"),
            "micro_f1": sklearn.f1_score(truth, given, average="micro"),
            "subset_accuracy": sklearn.accuracy_score(truth, given),
            "hamming_loss": sklearn.hamming_loss(truth, given),
        }
        for name, value in overall.items():
            assert found[name + at].value == pytest.approx(value), name
        confusions = sklearn.multilabel_confusion_matrix(truth, given)
        for label, ((tn, fp), (fn, tp)) in zip(table.class_names, confusions, strict=True):
            of_label = {
                "recall": (tp / (tp + fn), tp + fn),
                "specificity": (tn / (tn + fp), tn + fp),
                "precision": (tp / (tp + fp), tp + fp),
                "npv": (tn / (tn + fn), tn + fn),
                "f1": (2 * tp / (2 * tp + fp + fn), tp + fn),
            }
            for name, (value, n) in of_label.items():
                assert found[name + at, label].value == pytest.approx(value), name
                assert found[name + at, label].n == n, name


def with_unknown(table: LabelPredictions, share: float = 0.3) -> LabelPredictions:
    unknown = np.random.default_rng(3).random(table.labels.shape) < share
    return dataclasses.replace(table, labels=table.labels & ~unknown, unknown=unknown)


def of_label(found: Evaluation, label: str) -> dict[str, Estimate]:
    """The metrics of a label."""
    return {metric.name: estimate for metric, of, estimate in found if of == label}


def same(found: dict[str, Estimate], expected: dict[str, Estimate]) -> bool:
    """Whether estimates are equal up to rounding, nan equal to nan."""
    a, b = ([dataclasses.astuple(one) for one in each.values()] for each in (found, expected))
    return list(found) == list(expected) and np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_a_label_is_evaluated_on_the_images_of_which_it_is_known() -> None:
    """Values and intervals of each label are those of a table without the other images."""
    thresholds = np.array([0.3, 0.4, 0.2, 0.35])
    tables = [with_unknown(make_table(seed=seed, per_group=3)) for seed in range(2)]
    found = evaluate_labels(tables, thresholds)
    for c, label in enumerate(found.classes):
        known = tables[0].known[:, c]
        alone = [dataclasses.replace(table.take(known), unknown=None) for table in tables]
        expected = evaluate_labels(alone, thresholds)
        assert found["auroc", label.name].n == known.sum()
        assert label == expected.classes[c]
        assert label.n + label.others == known.sum()
        assert len(of_label(found, label.name)) == 12
        assert same(of_label(found, label.name), of_label(expected, label.name))
        thresholds_of = out_of_fold_thresholds(tables[0])[known, c]
        np.testing.assert_allclose(thresholds_of, out_of_fold_thresholds(alone[0])[:, c])
    of_known = [
        sklearn.average_precision_score(one.labels[one.known[:, c], c], one.logits[one.known[:, c], c])
        for one in tables
        for c in range(4)
    ]
    assert found["mean_average_precision"].value == pytest.approx(np.mean(of_known))
    assert np.mean([macro_average_precision(one) for one in tables]) == pytest.approx(np.mean(of_known))


def test_decisions_over_all_labels_are_over_known_ones() -> None:
    table = with_unknown(make_table())
    found = evaluate_labels([table])
    given, known = table.decided(0.5), table.known
    wrong = (given != table.labels) & known
    assert found["hamming_loss_at_half"].value == pytest.approx(wrong.sum() / known.sum())
    assert found["subset_accuracy_at_half"].value == pytest.approx((~wrong.any(axis=1)).mean())
    assert found["micro_f1_at_half"].value == pytest.approx(
        sklearn.f1_score(table.labels[known], given[known])
    )


@pytest.mark.parametrize("value", [0.001, 0.999])
def test_what_is_predicted_for_unknown_labels_does_not_matter(value: float) -> None:
    table = with_unknown(make_table(per_group=2))
    logit = np.float32(np.log(value / (1 - value)))
    other = dataclasses.replace(
        table,
        logits=np.where(table.known, table.logits, logit),
        posterior=np.where(table.known, table.posterior, np.float32(value)),
    )
    one, two = evaluate_labels([other]), evaluate_labels([table])
    assert (one.estimates, one.classes) == (two.estimates, two.classes)
    np.testing.assert_array_equal(deployable_thresholds([other]), deployable_thresholds([table]))


def test_a_label_that_is_never_known_is_undefined() -> None:
    table = make_table()
    unknown = np.zeros(table.labels.shape, dtype=bool)
    unknown[:, 1] = True
    table = dataclasses.replace(table, labels=table.labels & ~unknown, unknown=unknown)
    found = evaluate_labels([table])
    assert all(is_undefined(estimate) for estimate in of_label(found, "label1").values())
    assert found.classes[1] == ClassSize("label1", 0, 0, 0)
    assert not is_undefined(found.score)


def test_every_value_lies_in_its_interval_in_0_to_1() -> None:
    found = evaluate_labels([make_table(rows=60, seed=seed, per_group=3) for seed in range(3)])
    assert len(found.estimates) == 2 + 2 * 4 + 4 * (2 + 2 * 5)
    for key, estimate in found.estimates.items():
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1, key
        assert estimate.low < estimate.high, key
    assert (found.n, found.groups, found.replicates) == (60, 20, 3)


def test_a_label_that_no_image_has_is_absent_and_takes_no_part() -> None:
    table = make_table()
    labels = table.labels.copy()
    labels[:, 1] = False
    without = dataclasses.replace(table, labels=labels)
    found = evaluate_labels([without])
    label, others = "label1", [0, 2, 3]
    assert found.classes[1] == ClassSize(label, 0, 300, 0)
    assert found.classes[0].n > 0
    assert is_undefined(found["auroc", label])
    assert is_undefined(found["average_precision", label])
    for at in ("", "_at_half"):
        assert all(is_undefined(found[name + at, label]) for name in ("recall", "precision", "f1"))
        assert found["specificity" + at, label].n == 300
        assert found["npv" + at, label].value == 1
        assert found["macro_f1" + at].value == pytest.approx(
            np.mean([found.by_class("f1" + at)[c].value for c in others])
        )
    assert found["macro_auroc"].value == pytest.approx(
        sklearn.roc_auc_score(labels[:, others], table.logits[:, others])
    )
    assert found["mean_average_precision"].value == pytest.approx(macro_average_precision(without))


def test_a_label_that_all_images_have_orders_nothing() -> None:
    table = make_table()
    labels = table.labels.copy()
    labels[:, 0] = True
    found = evaluate_labels([dataclasses.replace(table, labels=labels)])
    assert all(is_undefined(found[name, "label0"]) for name in ("auroc", "average_precision"))
    assert is_undefined(found["specificity_at_half", "label0"])
    assert found["precision_at_half", "label0"].value == 1
    assert found["npv_at_half", "label0"].value == 0
    recall = found["recall_at_half", "label0"]
    assert recall.low < recall.value < 1
    assert np.isfinite(found["macro_auroc"].value)


def test_no_label_anywhere_leaves_only_what_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_of(np.zeros((20, 2)), np.full((20, 2), -3.0))
        found = evaluate_labels([table])
    for name in ("macro_auroc", "mean_average_precision", "macro_f1_at_half", "micro_f1_at_half"):
        assert is_undefined(found[name]), name
    assert found["subset_accuracy_at_half"].value == 1
    assert found["subset_accuracy_at_half"].low < 1
    assert found["hamming_loss_at_half"].value == 0
    assert found["hamming_loss_at_half"].high > 0
    assert np.isnan(macro_average_precision(table))


def test_perfect_scores_still_have_an_interval() -> None:
    labels = np.eye(2, dtype=bool)[np.arange(40) % 2]
    found = evaluate_labels([table_of(labels, np.where(labels, 3.0, -3.0))])
    for auroc, precision in zip(found.by_class("auroc"), found.by_class("average_precision"), strict=True):
        assert auroc.value == precision.value == 1
        assert 0.7 < auroc.low < 1
        assert precision.low < 1
    assert found["macro_f1"].value == 1


def test_values_are_means_over_replicates() -> None:
    tables = [make_table(seed=seed) for seed in range(3)]
    one_by_one = [evaluate_labels([table]) for table in tables]
    together = evaluate_labels([tables[0], tables[1].take(np.arange(300)[::-1]), tables[2]])
    for key, estimate in together.estimates.items():
        mean = np.mean([single.estimates[key].value for single in one_by_one])
        assert estimate.value == pytest.approx(mean), key
    assert together["auroc", "label0"].n == 300
    assert together.replicates == 3


def test_copies_of_images_in_one_group_tell_nothing_new() -> None:
    """Every image three times in its group: the intervals are about those of the single images."""
    table = make_table(rows=100)
    rows = np.repeat(np.arange(100), 3)
    copies = dataclasses.replace(table.take(rows[::3]), group=table.group)
    tripled = LabelPredictions(
        np.array([f"{number:04}" for number in range(300)]),
        table.group[rows], table.labels[rows], table.fold[rows], table.logits[rows], table.class_names,
        table.posterior[rows],
    )  # fmt: skip
    one, three = evaluate_labels([copies]), evaluate_labels([tripled])
    for key in ("macro_auroc", ("auroc", "label0"), ("recall_at_half", "label0"), ("npv_at_half", "label0")):
        assert three[key].value == pytest.approx(one[key].value)
        assert three[key].high - three[key].low > 0.95 * (one[key].high - one[key].low)
    wide, narrow = (found.score.high - found.score.low for found in (three, one))
    assert wide > 0.8 * narrow


def test_an_ensemble_is_evaluated_like_any_table() -> None:
    tables = [make_table(seed=seed) for seed in range(3)]
    found = evaluate_labels([ensemble_labels(tables)], deployable_thresholds(tables))
    single = [evaluate_labels([table])["macro_auroc"].value for table in tables]
    assert found["macro_auroc"].value > max(single)


def test_tables_that_do_not_belong_together_are_refused() -> None:
    table = make_table()
    with pytest.raises(ValueError, match="at least one table"):
        evaluate_labels([])
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_labels([table.take(np.array([], dtype=int))])
    with pytest.raises(ValueError, match="same labels in every table"):
        evaluate_labels([table, dataclasses.replace(table, labels=~table.labels)])


def test_means_over_many_medium_and_few_shot_labels() -> None:
    rng = np.random.default_rng(1)
    n, names = 400, ("a", "b", "c", "d")
    labels = rng.random((n, 4)) < [0.5, 0.3, 0.1, 0.05]
    logits = (labels + rng.normal(size=(n, 4))).astype(np.float32)
    image = np.array([f"{index:03d}" for index in range(n)])
    p = 1 / (1 + np.exp(-logits))
    found = evaluate_labels(
        [LabelPredictions(image, image, labels, np.arange(n) % 2, logits, names, p)],
        train_counts=[200, 101, 20, 19],
    )
    assert found.class_groups == {"many": (0, 1), "medium": (2,), "few": (3,)}
    many = np.mean([found["average_precision", name].value for name in "ab"])
    assert found["average_precision_many"].value == pytest.approx(many)
    assert found["average_precision_few"].value == pytest.approx(found["average_precision", "d"].value)
    assert found["auroc_medium"].value == pytest.approx(found["auroc", "c"].value)
    assert found["average_precision_many"].n == labels[:, :2].sum()
