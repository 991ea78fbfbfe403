"""Every value of an evaluation is scikit-learn's, on random and on degenerate tables; what is unknown is nan, never 0."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from tametail.evaluation import Estimate, evaluate, intervals
from tametail.predictions.single_label import LinkName, Predictions

SAMPLED = settings(deadline=None, max_examples=60)


@st.composite
def studies(draw: st.DrawFn) -> list[Predictions]:
    """One to three replicates of 1 to 25 images: few classes and many, absent ones, ties, constant predictions."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    images, classes = draw(st.integers(1, 25)), draw(st.integers(2, 5))
    present = draw(st.integers(1, classes))  # classes above have no image
    target, group = rng.integers(0, present, images), rng.integers(0, draw(st.integers(1, 25)), images)
    skill, decimals = draw(st.sampled_from([0.0, 1.0, 20.0])), draw(st.sampled_from([0, 5]))
    constant = draw(st.booleans())
    link: LinkName = draw(st.sampled_from(["softmax", "sigmoid"]))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        logits = np.round(rng.normal(size=(images, classes)) + skill * np.eye(classes)[target], decimals)
        found.append(table_of(target, np.zeros_like(logits) if constant else logits, group, link))
    return found


def table_of(
    target: np.ndarray, logits: np.ndarray, group: np.ndarray | None = None, link: LinkName = "softmax"
) -> Predictions:
    image = np.array([f"{index:04}" for index in range(len(target))])
    names = tuple(f"class {index}" for index in range(logits.shape[1]))
    groups = image if group is None else group.astype(np.str_)
    fold = np.zeros(len(target), dtype=np.int64)
    return Predictions(image, groups, target, fold, logits.astype(np.float32), names, link)


def mean(score: Callable[[Predictions], float], tables: list[Predictions]) -> float:
    """Over the tables where the score is defined."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # scikit-learn's of what is undefined, and numpy's of a mean of nothing
        return float(np.nanmean([score(table) for table in tables]))


def one_class(table: Predictions) -> bool:
    return len(np.unique(np.concatenate([table.target, table.predicted]))) == 1


def both_constant(table: Predictions) -> bool:
    return len(np.unique(table.target)) == len(np.unique(table.predicted)) == 1


@SAMPLED
@given(studies())
def test_overall_values_are_scikit_learns(tables: list[Predictions]) -> None:
    found = evaluate(tables, class_order=tables[0].class_names, resamples=10)
    codes = range(len(tables[0].class_names))
    expected = {
        "accuracy": mean(lambda t: sk.accuracy_score(t.target, t.predicted), tables),
        "balanced_accuracy": mean(lambda t: sk.balanced_accuracy_score(t.target, t.predicted), tables),
        "mcc": mean(
            lambda t: np.nan if both_constant(t) else sk.matthews_corrcoef(t.target, t.predicted), tables
        ),
        "kappa": mean(
            lambda t: (
                np.nan
                if one_class(t)
                else sk.cohen_kappa_score(t.target, t.predicted, labels=codes, weights="quadratic")
            ),
            tables,
        ),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12, nan_ok=True), name


@SAMPLED
@given(studies())
def test_values_of_each_class_are_scikit_learns(tables: list[Predictions]) -> None:
    target = tables[0].target
    found = evaluate(tables, resamples=10)
    for code, one in enumerate(found.classes):
        positive = target == code
        negatives = int((~positive).sum())
        assert (one.n, one.others) == (len(target) - negatives, negatives)
        for name, score in (("specificity", sk.recall_score), ("npv", sk.precision_score)):
            expected = mean(
                lambda t, c=code, s=score: s(
                    t.target == c, t.predicted == c, pos_label=False, zero_division=np.nan
                ),
                tables,
            )
            assert found[name, one.name].value == pytest.approx(expected, nan_ok=True), name
        others = np.any([t.predicted != code for t in tables], axis=0)
        assert found["npv", one.name].n == others.sum()
        assert found["specificity", one.name].n == negatives
        ranks = found["auroc", one.name], found["average_precision", one.name]
        if 0 < one.n < len(target):
            scores = sk.roc_auc_score, sk.average_precision_score
            for estimate, score in zip(ranks, scores, strict=True):
                value = mean(lambda t, c=code, s=score: s(t.target == c, t.probabilities[:, c]), tables)
                assert estimate.value == pytest.approx(value)
            assert [estimate.n for estimate in ranks] == [len(target), one.n]
        else:
            assert all(unknown(estimate) and estimate.n == 0 for estimate in ranks)


def unknown(estimate: Estimate) -> bool:
    return bool(np.isnan([estimate.value, estimate.low, estimate.high]).all())


@SAMPLED
@given(studies())
def test_every_estimate_lies_in_an_interval_with_a_width_or_is_unknown(tables: list[Predictions]) -> None:
    classes = len(tables[0].class_names)
    found = evaluate(tables, train_counts=range(classes), class_order=tables[0].class_names, resamples=10)
    assert len(found.estimates) == 7 * classes + 7 + 2 * len(found.class_groups)
    for (name, _), estimate in found.estimates.items():
        if np.isnan([estimate.value, estimate.low, estimate.high]).any():
            assert unknown(estimate), name
            assert estimate.n == 0, name
        else:
            lowest = -1 if name in ("mcc", "kappa") else 0
            highest = np.inf if name == "mean_absolute_error" else 1
            assert lowest <= estimate.low <= estimate.value <= estimate.high <= highest, name
            assert estimate.low < estimate.high, name


@SAMPLED
@given(studies())
def test_an_absent_class_is_unknown_but_for_what_is_wrongly_given_to_it(tables: list[Predictions]) -> None:
    found = evaluate(tables, resamples=10)
    for one in found.classes:
        if one.n == 0:
            recall, precision = found["recall", one.name], found["precision", one.name]
            assert unknown(recall)
            assert recall.n == 0
            given_to_it = precision.n > 0
            assert unknown(precision) != given_to_it
            assert (found["specificity", one.name].value < 1) == given_to_it
            npv = found["npv", one.name]
            assert npv.value == 1 or (unknown(npv) and npv.n == 0)


def test_ranks_are_by_the_posterior_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 60)
    table = table_of(target, rng.normal(size=(60, 3)))
    posterior = rng.dirichlet([1, 1, 1], 60).astype(np.float32)
    found = evaluate([dataclasses.replace(table, posterior=posterior)], resamples=10)
    for code, auroc in enumerate(found.by_class("auroc")):
        p = posterior / posterior.sum(axis=1, keepdims=True, dtype=np.float64)
        assert auroc.value == pytest.approx(sk.roc_auc_score(target == code, p[:, code]))


def test_an_ungrouped_specificity_has_wilsons_interval() -> None:
    target = np.repeat([0, 1], [20, 30])
    predicted = np.where(np.arange(50) % 10 == 0, 1 - target, target)
    found = evaluate([table_of(target, np.eye(2)[predicted])], resamples=10)["specificity", "class 0"]
    np.testing.assert_allclose([found.low, found.high], intervals.wilson(27 / 30, 30))


def test_classes_without_an_order_have_no_kappa() -> None:
    table = table_of(np.array([0, 1, 2]), np.eye(3))
    with pytest.raises(KeyError, match="kappa"):
        evaluate([table], resamples=10)["kappa"]


def test_kappa_minds_how_far_a_mistake_is_off_and_mcc_does_not() -> None:
    target = np.repeat(np.arange(4), 10)
    near, far = target.copy(), target.copy()
    near[[0, 39]], far[[0, 39]] = [1, 2], [3, 0]
    tables = [table_of(target, np.eye(4)[given]) for given in (near, far)]
    close, distant = (evaluate([table], class_order=table.class_names) for table in tables)
    assert close["kappa"].low > distant["kappa"].low
    assert close["kappa"].value > distant["kappa"].value
    assert close["mcc"].value == pytest.approx(distant["mcc"].value, abs=0.01)


def test_all_right_leaves_as_much_doubt_about_mcc_as_about_the_accuracy() -> None:
    """With classes of one size q = 1 - 1 / C of the chance agreement is left, and MCC moves 1 / q as fast."""
    target = np.repeat(np.arange(4), 5)
    table = table_of(target, np.eye(4)[target])
    found = evaluate([table], class_order=table.class_names, resamples=100)
    assert found["mcc"].value == found["mcc"].high == 1
    assert 1 - found["mcc"].low == pytest.approx((1 - found["accuracy"].low) * 4 / 3)
    # Squared distances by chance: 2.5 on average. Where no mistake is seen, the rate of those of one step may be what
    # 0 events of a Poisson distribution allow: 3.69.
    assert 1 - found["kappa"].low == pytest.approx(stats.chi2.ppf(0.975, 2) / 2 / 20 / 2.5)
