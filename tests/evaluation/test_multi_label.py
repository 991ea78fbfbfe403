from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn

from tametail.evaluation.evaluate import Estimate
from tametail.evaluation.multi_label import (
    deployable_thresholds,
    evaluate_labels,
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
    for c, label in enumerate(found.labels):
        assert label.auroc.value == pytest.approx(sklearn.roc_auc_score(truth[:, c], scored[:, c]))
        assert label.average_precision.value == pytest.approx(
            sklearn.average_precision_score(truth[:, c], scored[:, c])
        )
        assert (label.positives, label.negatives) == (truth[:, c].sum(), (~truth[:, c]).sum())
    assert found.auroc.value == pytest.approx(sklearn.roc_auc_score(truth, scored))
    assert found.average_precision.value == pytest.approx(sklearn.average_precision_score(truth, scored))
    assert macro_average_precision(table) == pytest.approx(found.average_precision.value)


@pytest.mark.parametrize("seed", range(3))
def test_decisions_agree_with_sklearn(seed: int) -> None:
    table = make_table(seed=seed)
    thresholds = np.array([0.3, 0.4, 0.2, 0.35])
    found = evaluate_labels([table], thresholds)
    for decisions, cuts in ((found.chosen, thresholds), (found.plain, 0.5)):
        truth, given = table.labels, table.posterior >= cuts
        assert decisions.macro_f1.value == pytest.approx(sklearn.f1_score(truth, given, average="macro"))
        assert decisions.micro_f1.value == pytest.approx(sklearn.f1_score(truth, given, average="micro"))
        assert decisions.subset_accuracy.value == pytest.approx(sklearn.accuracy_score(truth, given))
        assert decisions.hamming_loss.value == pytest.approx(sklearn.hamming_loss(truth, given))
        confusions = sklearn.multilabel_confusion_matrix(truth, given)
        for label, ((tn, fp), (fn, tp)) in zip(decisions.labels, confusions, strict=True):
            assert label.recall.value == pytest.approx(tp / (tp + fn))
            assert label.specificity.value == pytest.approx(tn / (tn + fp))
            assert label.precision.value == pytest.approx(tp / (tp + fp))
            assert label.f1.value == pytest.approx(2 * tp / (2 * tp + fp + fn))
            assert (label.recall.n, label.specificity.n, label.precision.n) == (tp + fn, tn + fp, tp + fp)


def with_unknown(table: LabelPredictions, share: float = 0.3) -> LabelPredictions:
    unknown = np.random.default_rng(3).random(table.labels.shape) < share
    return dataclasses.replace(table, labels=table.labels & ~unknown, unknown=unknown)


def same(found: object, expected: object) -> bool:
    """Whether results are equal up to rounding, nan equal to nan."""
    a, b = (np.hstack([np.ravel(x) for x in flat(one)]) for one in (found, expected))
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True))


def flat(result: object) -> list[object]:
    """All numbers of a result."""
    if isinstance(result, (int, float)):
        return [result]
    if isinstance(result, tuple):
        return [number for one in result for number in flat(one)]
    if dataclasses.is_dataclass(result):
        return flat(tuple(getattr(result, field.name) for field in dataclasses.fields(result)))
    return []


def test_a_label_is_evaluated_on_the_images_of_which_it_is_known() -> None:
    """Values and intervals of each label are those of a table without the other images."""
    thresholds = np.array([0.3, 0.4, 0.2, 0.35])
    tables = [with_unknown(make_table(seed=seed, per_group=3)) for seed in range(2)]
    found = evaluate_labels(tables, thresholds)
    for c, label in enumerate(found.labels):
        known = tables[0].known[:, c]
        alone = [dataclasses.replace(table.take(known), unknown=None) for table in tables]
        expected = evaluate_labels(alone, thresholds)
        assert label.auroc.n == known.sum()
        assert same(label, expected.labels[c])
        assert label.prevalence == label.positives / known.sum()
        assert same(found.plain.labels[c], expected.plain.labels[c])
        assert same(found.chosen.labels[c], expected.chosen.labels[c])
        thresholds_of = out_of_fold_thresholds(tables[0])[known, c]
        np.testing.assert_allclose(thresholds_of, out_of_fold_thresholds(alone[0])[:, c])
    of_known = [
        sklearn.average_precision_score(one.labels[one.known[:, c], c], one.logits[one.known[:, c], c])
        for one in tables
        for c in range(4)
    ]
    assert found.average_precision.value == pytest.approx(np.mean(of_known))
    assert np.mean([macro_average_precision(one) for one in tables]) == pytest.approx(np.mean(of_known))


def test_decisions_over_all_labels_are_over_known_ones() -> None:
    table = with_unknown(make_table())
    found = evaluate_labels([table]).plain
    given, known = table.decided(0.5), table.known
    wrong = (given != table.labels) & known
    assert found.hamming_loss.value == pytest.approx(wrong.sum() / known.sum())
    assert found.subset_accuracy.value == pytest.approx((~wrong.any(axis=1)).mean())
    assert found.micro_f1.value == pytest.approx(sklearn.f1_score(table.labels[known], given[known]))


@pytest.mark.parametrize("value", [0.001, 0.999])
def test_what_is_predicted_for_unknown_labels_does_not_matter(value: float) -> None:
    table = with_unknown(make_table(per_group=2))
    logit = np.float32(np.log(value / (1 - value)))
    other = dataclasses.replace(
        table,
        logits=np.where(table.known, table.logits, logit),
        posterior=np.where(table.known, table.posterior, np.float32(value)),
    )
    assert evaluate_labels([other]) == evaluate_labels([table])
    np.testing.assert_array_equal(deployable_thresholds([other]), deployable_thresholds([table]))


def test_a_label_that_is_never_known_is_undefined() -> None:
    table = make_table()
    unknown = np.zeros(table.labels.shape, dtype=bool)
    unknown[:, 1] = True
    table = dataclasses.replace(table, labels=table.labels & ~unknown, unknown=unknown)
    found = evaluate_labels([table])
    assert is_undefined(found.labels[1].auroc)
    assert is_undefined(found.chosen.labels[1].specificity)
    assert np.isnan(found.labels[1].prevalence)
    assert not is_undefined(found.average_precision)


def test_every_value_lies_in_its_interval_in_0_to_1() -> None:
    found = evaluate_labels([make_table(rows=60, seed=seed, per_group=3) for seed in range(3)])
    estimates = [found.average_precision, found.auroc]
    for decisions in (found.chosen, found.plain):
        estimates += [decisions.macro_f1, decisions.micro_f1, decisions.subset_accuracy]
        estimates += [decisions.hamming_loss]
        estimates += [getattr(d, f.name) for d in decisions.labels for f in dataclasses.fields(d)]
    estimates += [estimate for label in found.labels for estimate in (label.auroc, label.average_precision)]
    for estimate in estimates:
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high
    assert (found.n, found.groups, found.replicates) == (60, 20, 3)


def test_a_label_that_no_image_has_is_absent_and_takes_no_part() -> None:
    table = make_table()
    labels = table.labels.copy()
    labels[:, 1] = False
    without = dataclasses.replace(table, labels=labels)
    found = evaluate_labels([without])
    label, others = found.labels[1], [0, 2, 3]
    assert label.absent
    assert not found.labels[0].absent
    assert is_undefined(label.auroc)
    assert is_undefined(label.average_precision)
    for decisions in (found.chosen, found.plain):
        own = decisions.labels[1]
        assert all(is_undefined(estimate) for estimate in (own.recall, own.precision, own.f1))
        assert own.specificity.n == 300
        assert decisions.macro_f1.value == pytest.approx(
            np.mean([decisions.labels[c].f1.value for c in others])
        )
    assert found.auroc.value == pytest.approx(
        sklearn.roc_auc_score(labels[:, others], table.logits[:, others])
    )
    assert found.average_precision.value == pytest.approx(macro_average_precision(without))


def test_a_label_that_all_images_have_orders_nothing() -> None:
    table = make_table()
    labels = table.labels.copy()
    labels[:, 0] = True
    found = evaluate_labels([dataclasses.replace(table, labels=labels)])
    assert is_undefined(found.labels[0].auroc)
    assert is_undefined(found.labels[0].average_precision)
    assert is_undefined(found.plain.labels[0].specificity)
    assert found.plain.labels[0].precision.value == 1
    assert found.plain.labels[0].recall.low < found.plain.labels[0].recall.value < 1
    assert np.isfinite(found.auroc.value)


def test_no_label_anywhere_leaves_only_what_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_of(np.zeros((20, 2)), np.full((20, 2), -3.0))
        found = evaluate_labels([table])
    assert is_undefined(found.auroc)
    assert is_undefined(found.average_precision)
    assert is_undefined(found.plain.macro_f1)
    assert is_undefined(found.plain.micro_f1)
    assert found.plain.subset_accuracy.value == 1
    assert found.plain.subset_accuracy.low < 1
    assert found.plain.hamming_loss.value == 0
    assert found.plain.hamming_loss.high > 0
    assert np.isnan(macro_average_precision(table))


def test_perfect_scores_still_have_an_interval() -> None:
    labels = np.eye(2, dtype=bool)[np.arange(40) % 2]
    found = evaluate_labels([table_of(labels, np.where(labels, 3.0, -3.0))])
    for label in found.labels:
        assert label.auroc.value == label.average_precision.value == 1
        assert 0.7 < label.auroc.low < 1
        assert label.average_precision.low < 1
    assert found.chosen.macro_f1.value == 1


def test_values_are_means_over_replicates() -> None:
    tables = [make_table(seed=seed) for seed in range(3)]
    one_by_one = [evaluate_labels([table]) for table in tables]
    together = evaluate_labels([tables[0], tables[1].take(np.arange(300)[::-1]), tables[2]])
    for path in (
        lambda e: e.auroc,
        lambda e: e.average_precision,
        lambda e: e.labels[3].average_precision,
        lambda e: e.chosen.macro_f1,
        lambda e: e.plain.labels[2].recall,
        lambda e: e.plain.micro_f1,
    ):
        assert path(together).value == pytest.approx(np.mean([path(single).value for single in one_by_one]))
    assert together.labels[0].auroc.n == 300
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
    for path in (lambda e: e.auroc, lambda e: e.labels[0].auroc, lambda e: e.plain.labels[0].recall):
        assert path(three).value == pytest.approx(path(one).value)
        assert path(three).high - path(three).low > 0.95 * (path(one).high - path(one).low)
    wide, narrow = (path.high - path.low for path in (three.average_precision, one.average_precision))
    assert wide > 0.8 * narrow


def test_an_ensemble_is_evaluated_like_any_table() -> None:
    tables = [make_table(seed=seed) for seed in range(3)]
    found = evaluate_labels([ensemble_labels(tables)], deployable_thresholds(tables))
    assert found.auroc.value > max(evaluate_labels([table]).auroc.value for table in tables)


def test_tables_that_do_not_belong_together_are_refused() -> None:
    table = make_table()
    with pytest.raises(ValueError, match="at least one table"):
        evaluate_labels([])
    with pytest.raises(ValueError, match="at least one image"):
        evaluate_labels([table.take(np.array([], dtype=int))])
    with pytest.raises(ValueError, match="same labels in every table"):
        evaluate_labels([table, dataclasses.replace(table, labels=~table.labels)])
