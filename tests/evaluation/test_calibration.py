from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from fixtures.close import assert_close
from fixtures.made_up import deterministic, made_up
from tametail.evaluation import intervals
from tametail.evaluation.calibration import (
    adaptive_ece,
    brier_scores,
    calibration_of,
    logistic_recalibration,
)
from tametail.evaluation.calibration_maps import calibrate_out_of_fold


def _reference_ece(p: np.ndarray, happened: np.ndarray) -> float:
    """Sorted images cut into bins of equal number, one after the other; ties go with the bin that they begin in."""
    order, bins = np.argsort(p, kind="stable"), max(1, min(15, len(p) // 20))
    p, happened = p[order], happened[order]
    total, start = 0.0, 0
    for number in range(1, bins + 1):
        end = number * len(p) // bins
        if end <= start:
            continue
        while end < len(p) and p[end] == p[end - 1]:
            end += 1
        total += abs(p[start:end].mean() - happened[start:end].mean()) * (end - start)
        start = end
    return total / len(p)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(np.linspace(0, 1, 21).tolist()), st.booleans()), min_size=1, max_size=120
    ),
    fine=st.booleans(),
)
@settings(deadline=None)
def test_ece_is_that_of_a_plain_loop(rows: list[tuple[float, bool]], fine: bool) -> None:
    p, happened = (np.array(column) for column in zip(*rows, strict=True))
    if fine:
        p = np.random.default_rng(len(p)).random(len(p))
    found = adaptive_ece(p, happened)
    assert found == pytest.approx(_reference_ece(p, happened))
    shuffled = np.random.default_rng(0).permutation(len(p))
    assert adaptive_ece(p[shuffled], happened[shuffled]) == pytest.approx(found)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_brier_and_log_loss_are_sklearns(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.5), 30).astype(np.float32)
    target = rng.integers(0, classes, 30)
    table = deterministic(p, target)
    found, p = calibration_of([table]), table.probabilities
    by_class = [sklearn.brier_score_loss(target == c, p[:, c], pos_label=True) for c in range(classes)]
    assert found.brier.value == pytest.approx(sum(by_class))
    assert found.brier.low <= found.brier.value <= found.brier.high
    assert found.brier.low >= 0
    assert found.brier.high <= 2
    assert found.log_loss == pytest.approx(
        sklearn.log_loss(target, np.maximum(p, 1e-12), labels=range(classes)), rel=1e-5
    )


def test_ece_of_the_class_decided_for_and_of_each_class() -> None:
    table = made_up(sharpness=2)
    found, p = calibration_of([table]), table.probabilities
    right = table.predicted == table.target
    assert found.ece == pytest.approx(_reference_ece(p.max(axis=1), right))
    each = [_reference_ece(p[:, c], table.target == c) for c in range(3)]
    assert found.class_wise_ece == pytest.approx(np.mean(each))


def test_an_absent_class_does_not_count_as_well_calibrated() -> None:
    table = made_up()
    two = dataclasses.replace(table, target=np.where(table.target == 2, 0, table.target))
    each = [_reference_ece(table.probabilities[:, c], two.target == c) for c in range(2)]
    assert calibration_of([two]).class_wise_ece == pytest.approx(np.mean(each))


def test_bins_hold_all_images_and_have_wilsons_limits() -> None:
    table = made_up(images=330, per_group=1)
    found = calibration_of([table])
    assert len(found.bins) == 15
    assert [b.n for b in found.bins] == [22] * 15
    confidence = np.sort(table.probabilities.max(axis=1))
    assert found.bins[0].confidence == pytest.approx(confidence[:22].mean())
    for b in found.bins:
        low, high = intervals.wilson(b.accuracy, b.n)
        assert (b.low, b.high) == (pytest.approx(float(low)), pytest.approx(float(high)))
    gap = sum(b.n * abs(b.confidence - b.accuracy) for b in found.bins) / 330
    assert gap == pytest.approx(found.ece)


def test_one_probability_is_one_bin_and_few_images_are_one() -> None:
    flat = deterministic(np.full((200, 4), 0.25), np.arange(200) % 4)
    assert len(calibration_of([flat]).bins) == 1
    assert calibration_of([flat]).ece == pytest.approx(0)
    assert calibration_of([flat]).brier.value == pytest.approx(0.75)
    assert len(calibration_of([made_up(images=30)]).bins) == 1
    single = calibration_of([made_up(images=1)])
    assert single.bins[0].n == 1
    assert single.brier.low < single.brier.value < single.brier.high
    assert single.after is None


@pytest.mark.parametrize("right", [True, False])
def test_certain_ones_that_are_all_right_or_all_wrong(right: bool) -> None:
    target = np.arange(60) % 3
    p = np.eye(3)[target if right else (target + 1) % 3]
    found = calibration_of([deterministic(p, target, np.arange(60) % 2)])
    assert found.brier.value == pytest.approx(0 if right else 2)
    assert found.ece == pytest.approx(0 if right else 1)
    assert found.brier.high - found.brier.low == pytest.approx(2 * 3.841459 / 63.841459, rel=1e-4)
    assert np.isfinite(found.log_loss)
    assert np.isnan(found.slope)


def test_values_are_means_over_replicates_and_n_counts_images() -> None:
    tables = [made_up(), dataclasses.replace(made_up(), logits=made_up().logits * 2, posterior=None)]
    both, each = calibration_of(tables), [calibration_of([table]) for table in tables]
    for name in ("ece", "class_wise_ece", "log_loss"):
        assert getattr(both, name) == pytest.approx(np.mean([getattr(one, name) for one in each]))
    assert both.brier.value == pytest.approx(np.mean([one.brier.value for one in each]))
    assert both.brier.n == sum(b.n for b in both.bins) == 240
    assert_close(calibration_of([tables[0]] * 3).brier, calibration_of([tables[0]]).brier)


def test_the_order_of_rows_does_not_matter() -> None:
    table = made_up()
    rows = np.random.default_rng(0).permutation(240)
    names = ("image", "group", "target", "fold", "logits", "posterior")
    mixed = dataclasses.replace(table, **{name: getattr(table, name)[rows] for name in names})
    assert_close(calibration_of([table, mixed]).brier, calibration_of([table]).brier)
    assert calibration_of([mixed]).ece == pytest.approx(calibration_of([table]).ece)


def test_a_map_mends_what_is_too_sharp() -> None:
    table = made_up(images=3000, sharpness=3)
    found = calibration_of([table], calibrate_out_of_fold([table]))
    assert found.after is not None
    assert found.map is not None
    assert 1 / found.map.slope[0] == pytest.approx(3, rel=0.1)
    assert found.after.ece < found.ece / 2
    assert found.after.log_loss < found.log_loss
    assert found.after.brier.value < found.brier.value
    assert found.slope == pytest.approx(1 / 3, abs=0.1)
    assert found.after.slope == pytest.approx(1, abs=0.1)
    assert found.intercept < -0.3
    assert found.after.intercept == pytest.approx(0, abs=0.1)
    assert found.after.after is None


def test_intercept_and_slope_are_those_of_statsmodels() -> None:
    import statsmodels.api as sm
    from scipy import special

    rng = np.random.default_rng(0)
    p = rng.beta(4, 2, 500)
    happened = rng.random(500) < p**1.5
    x = special.logit(p)
    slope = sm.GLM(happened, sm.add_constant(x), family=sm.families.Binomial()).fit().params[1]
    intercept = sm.GLM(happened, np.ones(500), family=sm.families.Binomial(), offset=x).fit().params[0]
    assert logistic_recalibration(p, happened) == pytest.approx((intercept, slope), rel=1e-5)
    assert np.isnan(logistic_recalibration(p, np.ones(500, dtype=bool))).all()
    flat = logistic_recalibration(np.full(500, 0.7), happened)
    assert flat[0] == pytest.approx(special.logit(happened.mean()) - special.logit(0.7))
    assert np.isnan(flat[1])


def test_uniform_probabilities_have_the_uniform_log_loss() -> None:
    found = calibration_of([deterministic(np.full((200, 4), 0.25), np.arange(200) % 4)])
    assert found.log_loss == pytest.approx(found.uniform_log_loss)
    assert found.uniform_log_loss == pytest.approx(np.log(4))


@pytest.mark.parametrize("per_group", [1, 4])
def test_the_interval_of_the_brier_score_covers(per_group: int) -> None:
    """Groups of alike images: one image's score is that of its whole group."""
    rng = np.random.default_rng(3)
    covered, truth = 0, 0.0
    draws = []
    for _ in range(300):
        groups = 40
        p = rng.beta(4, 1, groups)
        happened = rng.random(groups) < p
        own = np.where(happened, p, 1 - p).repeat(per_group)
        draws.append(own)
    truth = 2 * np.mean([(1 - own) ** 2 for own in draws])
    for own in draws:
        table = deterministic(np.stack([own, 1 - own], axis=1), np.zeros(len(own)))
        table = dataclasses.replace(table, group=np.array([f"g{i // per_group}" for i in range(len(own))]))
        brier = calibration_of([table]).brier
        covered += brier.low <= truth <= brier.high
    assert 0.92 <= covered / 300 <= 0.98


def test_brier_scores_of_a_certain_answer() -> None:
    p = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(brier_scores(np.array([0, 0, 0]), p), [0, 2, 0.5])
