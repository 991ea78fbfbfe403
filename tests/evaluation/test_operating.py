from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from fixtures.made_up import deterministic, made_up
from tametail.evaluation import intervals
from tametail.evaluation.operating import Decisions, operating_point, threshold_for


def _reference_threshold(positive: np.ndarray, p: np.ndarray, sensitivity: float) -> float:
    """Tried one by one, from the highest that there is."""
    return max(cut for cut in p if (p[positive] >= cut).mean() >= sensitivity - 1e-12)


@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.sampled_from(np.linspace(0, 1, 9).tolist())), min_size=1, max_size=40
    ),
    sensitivity=st.sampled_from([0.01, 0.5, 0.8, 0.9, 0.95, 1.0]),
)
def test_no_higher_threshold_finds_as_many(rows: list[tuple[bool, float]], sensitivity: float) -> None:
    positive, p = (np.array(column) for column in zip(*rows, strict=True))
    found = threshold_for(positive, p, sensitivity)
    if not positive.any():
        assert np.isnan(found)
        return
    np.testing.assert_array_equal(p >= found, p >= _reference_threshold(positive, p, sensitivity))


def test_it_lies_half_way_to_the_next_probability() -> None:
    positive, p = np.array([True, True, False, False]), np.array([0.9, 0.5, 0.3, 0.1])
    assert threshold_for(positive, p, 1.0) == pytest.approx(0.4)
    assert threshold_for(positive, p, 0.5) == pytest.approx(0.7)
    assert threshold_for(np.full(4, True), p, 1.0) == pytest.approx(0.05)


def test_it_is_chosen_on_the_other_folds_and_judged_on_its_own() -> None:
    table = made_up()
    found = operating_point([table], 1, 0.9)
    p, positive = table.probabilities[:, 1], table.target == 1
    flagged = np.zeros(240, dtype=bool)
    for fold in range(4):
        own = table.fold == fold
        flagged[own] = p[own] >= threshold_for(positive[~own], p[~own], 0.9)
    assert found.sensitivity.value == pytest.approx(flagged[positive].mean())
    assert found.specificity.value == pytest.approx((~flagged[~positive]).mean())
    assert found.ppv.value == pytest.approx(positive[flagged].mean())
    assert found.alert_rate.value == pytest.approx(flagged.mean())
    assert found.flagged_per_100 == pytest.approx(100 * flagged.mean())
    assert found.threshold == threshold_for(positive, p, 0.9)
    counts = (positive.sum(), (~positive).sum(), flagged.sum(), 240)
    of = (found.sensitivity, found.specificity, found.ppv, found.alert_rate)
    assert tuple(each.n for each in of) == counts
    assert (found.class_name, found.required_sensitivity) == ("bcc", 0.9)


def test_its_decisions_are_scikit_learns_confusion_matrix_and_name_the_false_positives() -> None:
    table = made_up()
    found = operating_point([table], 1, 0.9).decisions
    p, target = table.probabilities[:, 1], table.target
    positive, flagged = target == 1, np.zeros(240, dtype=bool)
    for fold in range(4):
        own = table.fold == fold
        flagged[own] = p[own] >= threshold_for(positive[~own], p[~own], 0.9)
    of_truth = (found.true_negatives, found.false_positives, found.false_negatives, found.true_positives)
    assert of_truth == tuple(confusion_matrix(positive, flagged).ravel())
    by_class = {name: int((flagged & (target == code)).sum()) for code, name in ((0, "akiec"), (2, "mel"))}
    assert dict(found.false_positives_of) == by_class
    counts = [count for _, count in found.false_positives_of]
    assert counts == sorted(counts, reverse=True)


def test_decisions_are_means_over_replicates_and_of_evaluated_images_only() -> None:
    tables = [made_up(), dataclasses.replace(made_up(1), target=made_up().target)]
    found = operating_point(tables, 1, 0.8, threshold=0.3).decisions
    flagged = np.mean([table.probabilities[:, 1] >= 0.3 for table in tables], axis=0)
    positive = tables[0].target == 1
    assert found.true_positives == pytest.approx(flagged[positive].sum())
    assert found.false_positives == pytest.approx(flagged[~positive].sum())
    assert found.false_negatives == pytest.approx((1 - flagged)[positive].sum())
    assert found.true_negatives == pytest.approx((1 - flagged)[~positive].sum())
    nowhere = operating_point(tables, 1, 0.8, threshold=float("nan")).decisions
    assert nowhere == Decisions(0.0, 0.0, 0.0, 0.0, ())


def test_the_classes_of_a_fold_do_not_move_its_threshold() -> None:
    """The own fold holds what is flagged whatever it is; turned labels change who is right, not who is flagged."""
    table = made_up(folds=2)
    own = table.fold == 0
    unfolded = dataclasses.replace(table, target=np.where(own, 0, table.target))
    p, other = table.probabilities[:, 1], ~own
    cut = threshold_for((table.target == 1)[other], p[other], 0.8)
    found = operating_point([unfolded], 1, 0.8)
    # Fold 1 cannot be evaluated: no image of fold 0 is of the class any more.
    assert found.alert_rate.n == own.sum()
    assert found.alert_rate.value == pytest.approx((p[own] >= cut).mean())
    assert found.sensitivity.n == 0
    assert np.isnan(found.sensitivity.value)


def test_intervals_are_wilsons_where_images_stand_alone() -> None:
    found = operating_point([made_up(per_group=1)], 0, 0.8)
    for estimate in (found.sensitivity, found.specificity, found.ppv, found.alert_rate):
        low, high = intervals.wilson(estimate.value, estimate.n)
        assert estimate.low == pytest.approx(float(low))
        assert estimate.high == pytest.approx(float(high))


def test_an_absent_class_is_nan_and_never_0() -> None:
    table = made_up()
    without = dataclasses.replace(table, target=np.where(table.target == 2, 0, table.target))
    found = operating_point([without], 2, 0.95)
    for estimate in (found.sensitivity, found.specificity, found.ppv, found.alert_rate):
        assert np.isnan(estimate.value)
        assert estimate.n == 0
    assert np.isnan(found.threshold)
    assert np.isnan(found.flagged_per_100)


def test_every_image_of_the_class() -> None:
    target = np.zeros(40)
    found = operating_point([deterministic(np.full((40, 2), 0.5), target, np.arange(40) % 4)], 0, 0.9)
    assert found.sensitivity.value == found.ppv.value == found.alert_rate.value == 1
    assert found.specificity.n == 0


def test_full_sensitivity_is_asked_of_others_and_need_not_hold() -> None:
    table = made_up(images=600)
    found = operating_point([table], 2, 1.0)
    positive = table.target == 2
    assert found.threshold <= table.probabilities[positive, 2].min()
    assert 0.8 < found.sensitivity.value <= 1


def test_ties_are_flagged_together() -> None:
    p = np.tile([0.4, 0.6], (60, 1))
    found = operating_point([deterministic(p, np.arange(60) % 2, np.arange(60) % 3)], 1, 0.5)
    assert found.sensitivity.value == 1
    assert found.specificity.value == 0
    assert found.ppv.value == pytest.approx(0.5)


def test_images_without_folds_are_dealt_by_groups() -> None:
    table = made_up(images=400, per_group=4)
    unfolded = dataclasses.replace(table, fold=np.zeros(400, dtype=np.int64))
    found, again = operating_point([unfolded], 2, 0.9), operating_point([unfolded], 2, 0.9)
    assert found == again
    assert found.alert_rate.n == 400
    assert found.sensitivity.value == pytest.approx(0.9, abs=0.15)
    # One group alone holds the class: nothing else to choose by when it is evaluated, so it is left out.
    only = np.where(table.group == table.group[0], 2, 0)
    found = operating_point([dataclasses.replace(unfolded, target=only)], 2, 0.9)
    assert found.sensitivity.n == 0
    assert 0 < found.specificity.n < 400


def test_a_threshold_of_other_images_can_be_given() -> None:
    table = made_up()
    found = operating_point([table], 1, 0.9, threshold=0.25)
    flagged = table.probabilities[:, 1] >= 0.25
    assert found.threshold == 0.25
    assert found.alert_rate.value == pytest.approx(flagged.mean())


def test_values_are_means_over_replicates() -> None:
    tables = [made_up(), dataclasses.replace(made_up(1), target=made_up().target)]
    both = operating_point(tables, 1, 0.8)
    each = [operating_point([table], 1, 0.8) for table in tables]
    for name in ("sensitivity", "specificity", "ppv", "alert_rate"):
        assert getattr(both, name).value == pytest.approx(np.mean([getattr(one, name).value for one in each]))
    assert both.sensitivity.n == each[0].sensitivity.n


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 50), sensitivity=st.floats(0.05, 1))
def test_values_lie_within_their_limits(seed: int, sensitivity: float) -> None:
    found = operating_point([made_up(seed, images=60, per_group=3)], 2, sensitivity)
    for estimate in (found.sensitivity, found.specificity, found.ppv, found.alert_rate):
        assert not estimate.n or 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, 1.01, float("nan")])
def test_an_impossible_sensitivity_is_refused(sensitivity: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        operating_point([made_up()], 1, sensitivity)
    with pytest.raises(ValueError, match=r"0\.\.2"):
        operating_point([made_up()], 3, 0.9)


def test_a_threshold_that_could_not_be_chosen_elsewhere_is_not_chosen_here() -> None:
    found = operating_point([made_up()], 1, 0.9, threshold=float("nan"))
    assert np.isnan(found.threshold)
    for estimate in (found.sensitivity, found.specificity, found.ppv, found.alert_rate):
        assert estimate.n == 0
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
