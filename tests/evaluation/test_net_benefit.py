"""Net benefit, compared with its definition, with the formula of the package dcurves, and with statsmodels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from statsmodels.stats.proportion import proportion_confint

from fixtures.made_up import deterministic, made_up
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.net_benefit import NetBenefit, benefits, decision_curve, net_benefit
from tametail.predictions.single_label import Predictions

THRESHOLDS = (0.02, 0.1, 0.25, 0.5, 0.8)


def _by_definition(positive: np.ndarray, p: np.ndarray, threshold: float) -> float:
    tn, fp, fn, tp = confusion_matrix(positive, p >= threshold, labels=[False, True]).ravel()
    n = tn + fp + fn + tp
    return tp / n - fp / n * threshold / (1 - threshold)


def _by_rates(positive: np.ndarray, p: np.ndarray, threshold: float) -> float:
    """As dcurves computes it: sensitivity · prevalence - (1 - specificity) · (1 - prevalence) · odds of the threshold."""
    acted, prevalence = p >= threshold, positive.mean()
    sensitivity = recall_score(positive, acted)
    specificity = recall_score(positive, acted, pos_label=False)
    harm = threshold / (1 - threshold)
    return sensitivity * prevalence - (1 - specificity) * (1 - prevalence) * harm


def _numbers(point: NetBenefit) -> list[float]:
    estimates = point.model, point.treat_all, point.over_treat_all
    return [point.threshold, *(x for one in estimates for x in (one.value, one.low, one.high, one.n))]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_it_is_that_of_the_definition_and_of_the_published_formula(code: int) -> None:
    table = made_up()
    positive, p = table.target == code, table.probabilities[:, code]
    curve = decision_curve([table], code, THRESHOLDS)
    assert (curve.class_name, curve.positives) == (table.class_names[code], positive.sum())
    assert [point.threshold for point in curve.points] == list(THRESHOLDS)
    for point in curve.points:
        t = point.threshold
        assert point.model.value == pytest.approx(_by_definition(positive, p, t), abs=1e-12)
        assert point.model.value == pytest.approx(_by_rates(positive, p, t), abs=1e-12)
        assert point.model.value == pytest.approx(benefits(positive, p, t).mean(), abs=1e-12)
        assert point.treat_all.value == pytest.approx(_by_rates(positive, np.ones(240), t), abs=1e-12)
        assert point.over_treat_all.value == pytest.approx(point.model.value - point.treat_all.value)
        assert {each.n for each in (point.model, point.treat_all, point.over_treat_all)} == {240}
        assert _numbers(net_benefit([table], code, t)) == pytest.approx(_numbers(point))


def test_a_worked_example() -> None:
    """3 of 4 of the class and 2 of 6 others are acted on at 0.2: 3/10 - 2/10 · 1/4."""
    p = np.array([0.9, 0.5, 0.2, 0.1, 0.6, 0.3, 0.19, 0.1, 0.1, 0.0])
    table = deterministic(np.stack([1 - p, p], axis=1), np.arange(10) < 4)
    found = net_benefit([table], 1, 0.2)
    assert found.model.value == pytest.approx(0.25)
    assert found.treat_all.value == pytest.approx(0.4 - 0.6 / 4)
    assert found.over_treat_all.value == pytest.approx(0.0)


def test_it_is_the_mean_over_replicates() -> None:
    tables = [made_up(), dataclasses.replace(made_up(1), target=made_up().target)]
    both = decision_curve(tables, 1, THRESHOLDS).points
    each = [decision_curve([table], 1, THRESHOLDS).points for table in tables]
    for at, point in enumerate(both):
        assert point.model.value == pytest.approx(np.mean([one[at].model.value for one in each]))
        assert point.treat_all == each[0][at].treat_all
        assert point.model.n == 240


def test_treating_all_has_wilsons_limits() -> None:
    table = made_up(per_group=1)
    positives = int((table.target == 2).sum())
    low, high = proportion_confint(positives, 240, method="wilson")
    found = net_benefit([table], 2, 0.2).treat_all
    assert (found.low, found.high) == pytest.approx((low * 1.25 - 0.25, high * 1.25 - 0.25))


def test_limits_of_many_images_are_those_of_the_mean_of_the_benefits() -> None:
    table = made_up(images=20_000, per_group=1)
    for threshold in (0.1, 0.3):
        found = net_benefit([table], 1, threshold)
        each = benefits(table.target == 1, table.probabilities[:, 1], threshold)
        every = benefits(table.target == 1, np.ones(20_000), threshold)
        for estimate, of_images in ((found.model, each), (found.over_treat_all, each - every)):
            half = 1.96 * of_images.std() / np.sqrt(20_000)
            assert estimate.value == pytest.approx(of_images.mean())
            assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.03)


def test_images_of_one_group_say_less() -> None:
    table = made_up(per_group=1)
    columns = {name: np.repeat(values, 8, axis=0) for name, values in table.arrays.items()}
    columns["image"] = np.array([f"{number:05}" for number in range(1920)])
    repeated = dataclasses.replace(table, **columns)
    single = net_benefit([table], 1, 0.2).model
    together = net_benefit([repeated], 1, 0.2).model
    alone = net_benefit([dataclasses.replace(repeated, group=repeated.image)], 1, 0.2).model
    assert together.value == pytest.approx(single.value)
    assert together.high - together.low == pytest.approx(single.high - single.low, rel=0.02)
    assert alone.high - alone.low < 0.5 * (single.high - single.low)


def test_acting_on_no_image_is_0_with_a_width_and_on_all_is_treating_all() -> None:
    table = made_up()
    low, high = 1e-9, 1 - 1e-9
    none, every = net_benefit([table], 2, high), net_benefit([table], 2, low)
    assert none.model.value == 0
    assert none.model.high > 0
    assert every.over_treat_all.value == pytest.approx(0, abs=1e-9)
    assert every.over_treat_all.low < 0
    assert every.model.value == pytest.approx(every.treat_all.value)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 50), threshold=st.floats(0.01, 0.99), per_group=st.integers(1, 5))
def test_values_lie_within_limits_that_are_possible(seed: int, threshold: float, per_group: int) -> None:
    found = net_benefit([made_up(seed, images=40, per_group=per_group)], 2, threshold)
    odds = threshold / (1 - threshold)
    for estimate in (found.model, found.treat_all):
        assert -odds - 1e-12 <= estimate.low <= estimate.value <= estimate.high <= 1 + 1e-12
    gain: Estimate = found.over_treat_all
    assert -1 - 1e-12 <= gain.low <= gain.value <= gain.high <= odds + 1e-12


def test_many_thresholds_are_computed_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = made_up()
    whole = decision_curve([table], 0)
    monkeypatch.setattr("tametail.evaluation.net_benefit._ENTRIES", 500)
    by_blocks = decision_curve([table], 0)
    assert len(whole.points) == len(by_blocks.points) == 99
    for one, other in zip(whole.points, by_blocks.points, strict=True):
        assert _numbers(one) == pytest.approx(_numbers(other))


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        net_benefit([made_up()], 1, threshold)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        benefits(np.array([True]), np.array([0.5]), threshold)


def test_an_unknown_class_and_unordered_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        net_benefit([made_up()], 3, 0.5)
    for thresholds in ([], [0.5, 0.2], [0.2, 0.2]):
        with pytest.raises(ValueError, match="increasing order"):
            decision_curve([made_up()], 1, thresholds)


def test_ppv_at_the_threshold_decides_the_sign() -> None:
    """Acting is worth it exactly if the precision is above t, as t is the precision at which harm and benefit are equal."""
    table: Predictions = made_up(3)
    for code in range(3):
        for point in decision_curve([table], code, THRESHOLDS).points:
            acted = table.probabilities[:, code] >= point.threshold
            if acted.any():
                precision = precision_score(table.target == code, acted)
                assert (point.model.value > 1e-12) == (precision > point.threshold)
