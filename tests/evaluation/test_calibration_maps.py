from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.isotonic import IsotonicRegression

from fixtures.made_up import deterministic, made_up
from tametail.evaluation.calibration import calibration_of
from tametail.evaluation.calibration_maps import (
    MOST_CLASSES,
    CalibrationMap,
    apply_map,
    calibrate_out_of_fold,
)
from tametail.evaluation.log_loss import log_losses
from tametail.predictions.single_label import Predictions, concatenate


def only(table: Predictions, kind: str) -> CalibrationMap:
    """The map for new images where only this kind is worth taking."""
    found = calibrate_out_of_fold([table]).map
    assert found.kind == kind
    return found


def soft_loss(p: np.ndarray, table: Predictions) -> float:
    """The total log-loss where an image counts as n / (n + 1) of its class, and the rest is divided among all classes."""
    n, classes = p.shape
    share = (n * np.eye(classes)[table.target] + 1 / classes) / (n + 1)
    return float(-(share * np.log(p)).sum())


def shifted(seed: int = 0, images: int = 900) -> Predictions:
    """Probabilities that need a slope and a bias of each class."""
    table = made_up(seed, images=images)
    z = np.log(table.probabilities) * [0.5, 2.0, 1.0] + [1.0, -0.5, 0.0]
    return dataclasses.replace(table, posterior=special.softmax(z, axis=1).astype(np.float32))


def test_a_temperature_is_that_of_a_plain_search() -> None:
    table = made_up(images=2000, sharpness=3)
    found = only(table, "temperature")

    def objective(slope: float) -> float:
        p = special.softmax(slope * np.log(np.maximum(table.probabilities, 1e-12)), axis=1)
        return soft_loss(p, table) + 0.5 * (slope - 1) ** 2

    best = optimize.minimize_scalar(objective, bounds=(0.05, 5), method="bounded", options={"xatol": 1e-8}).x
    np.testing.assert_allclose(found.slope, best, rtol=1e-4)
    assert found.summary == f"temperature {1 / best:.2f}"
    assert best == pytest.approx(1 / 3, rel=0.1)
    np.testing.assert_allclose(
        found(table.probabilities),
        special.softmax(best * np.log(np.maximum(table.probabilities, 1e-12)), axis=1),
        rtol=1e-3,
    )


def test_vector_scaling_is_that_of_a_general_optimiser() -> None:
    table = shifted()
    found = only(table, "vector")
    log_p = np.log(table.probabilities)

    def objective(parameters: np.ndarray) -> float:
        p = special.softmax(log_p * parameters[:3] + parameters[3:], axis=1)
        ridge = 0.5 * ((parameters - [1, 1, 1, 0, 0, 0]) ** 2).sum()
        return soft_loss(p, table) + float(ridge)

    best = optimize.minimize(objective, [1, 1, 1, 0, 0, 0], options={"gtol": 1e-3}).x
    np.testing.assert_allclose(np.r_[found.slope, found.bias], best, atol=2e-3)


def test_isotonic_is_scikit_learns_for_each_class_normalised() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    truth = np.where(p < 0.5, 0.1, 0.9)  # a step that no slope can follow
    table = deterministic(np.stack([1 - p, p], axis=1), rng.random(4000) < truth, np.arange(4000) % 5)
    found = only(table, "isotonic")
    given = table.probabilities
    each = [
        IsotonicRegression(out_of_bounds="clip").fit(given[:, c], table.target == c).predict(given[:, c])
        for c in range(2)
    ]
    floor = 1 / (2 * (np.bincount(table.target) + 2))
    expected = np.maximum(np.stack(each, axis=1), floor)
    np.testing.assert_allclose(found(given), expected / expected.sum(axis=1, keepdims=True), atol=1e-9)


@pytest.mark.parametrize("table", [made_up(sharpness=3), shifted(), made_up(3, sharpness=0.5)])
def test_each_fold_is_mapped_by_the_kind_that_is_best_on_the_other_folds(table: Predictions) -> None:
    """Leave a fold out by hand: the maps for new images of the rest are those that its images get."""
    found = calibrate_out_of_fold([table])
    for fold in np.unique(table.fold)[:2]:
        rest = calibrate_out_of_fold([table.take(table.fold != fold)])
        own = table.take(table.fold == fold)
        expected = rest.map(own.probabilities)
        if rest.map.kind != "identity":
            np.testing.assert_allclose(
                found.tables[0].take(table.fold == fold).probabilities, expected, atol=1e-6
            )


def test_labels_of_a_fold_do_not_change_its_own_probabilities() -> None:
    table = shifted()
    own = table.fold == 1
    turned = dataclasses.replace(table, target=np.where(own, (table.target + 1) % 3, table.target))
    before, after = (calibrate_out_of_fold([each]).tables[0].probabilities for each in (table, turned))
    others = [log_losses(table.target, p)[~own].mean() for p in (before, after)]
    assert others[0] != others[1]
    if not np.array_equal(after, turned.probabilities):  # unless the turned labels made it give up
        np.testing.assert_allclose(before[own], after[own], atol=1e-6)


@given(seed=st.integers(0, 500), sharpness=st.floats(0.3, 4), images=st.integers(30, 300))
@settings(max_examples=25, deadline=None)
def test_it_never_raises_the_log_loss_and_never_changes_a_decision(
    seed: int, sharpness: float, images: int
) -> None:
    table = made_up(seed, images=images, sharpness=sharpness)
    found = calibrate_out_of_fold([table])
    mapped = found.tables[0]
    assert log_losses(table.target, mapped.probabilities).mean() <= (
        log_losses(table.target, table.probabilities).mean() + 1e-9
    )
    np.testing.assert_array_equal(mapped.predicted, table.predicted)
    np.testing.assert_allclose(mapped.probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(found.map(table.probabilities).sum(axis=1), 1)


def test_good_probabilities_stay_as_they_are() -> None:
    """Drawn from the very probabilities: of 20 sets most keep the identity, and no map costs more than it may by chance."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet([2, 2, 2], 3000)
    target = (rng.random(3000)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    table = deterministic(p, target, np.arange(3000) % 5)
    found = calibrate_out_of_fold([table])
    np.testing.assert_allclose(found.tables[0].probabilities, table.probabilities, atol=0.05)


def test_a_probability_of_exactly_zero_is_raised() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 600)
    target = (rng.random(600)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    p[p[:, 2] < 0.2, 2] = 0.0  # as the inverse links of ALPA and ASL do
    p /= p.sum(axis=1, keepdims=True)
    table = deterministic(p, target, np.arange(600) % 5)
    found = calibrate_out_of_fold([table])
    assert log_losses(target, table.probabilities).max() > 27
    assert log_losses(target, found.tables[0].probabilities).max() < 8
    assert found.map.floor[:2].tolist() == [0, 0] or found.map.kind == "isotonic"
    assert found.map.floor[2] == pytest.approx(1 / (2 * ((target == 2).sum() + 3)))
    assert "at least" in found.map.summary
    # Repeats do not make more images.
    np.testing.assert_allclose(calibrate_out_of_fold([table, table]).map.floor, found.map.floor)


@pytest.mark.parametrize("folds", [1, 2])
def test_few_folds_are_replaced_by_parts_of_whole_groups(folds: int) -> None:
    table = made_up(images=900, sharpness=3)
    few = dataclasses.replace(table, fold=table.fold % folds)
    found = calibrate_out_of_fold([few])
    assert found.map.kind != "identity"
    group = few.group == few.group[0]
    turned = dataclasses.replace(few, target=np.where(group, (few.target + 1) % 3, few.target))
    again = calibrate_out_of_fold([turned])
    np.testing.assert_array_equal(found.tables[0].probabilities[group], again.tables[0].probabilities[group])


def test_a_few_images_that_are_all_right_do_not_make_it_certain() -> None:
    target = np.arange(60) % 3
    table = deterministic(0.1 + 0.7 * np.eye(3)[target], target, np.arange(60) % 5)
    top = calibrate_out_of_fold([table]).map(table.probabilities).max(axis=1)
    assert (top > 0.9).all()
    assert (top < (60 + 1 / 3) / 61 + 0.002).all()


def test_too_few_groups_change_nothing() -> None:
    table = made_up(images=40, sharpness=5)
    single = dataclasses.replace(
        table, fold=np.zeros(40, np.int64), group=np.where(np.arange(40) < 20, "a", "b")
    )
    found = calibrate_out_of_fold([single])
    assert found.tables[0] is single
    assert found.map.kind == "identity"
    np.testing.assert_array_equal(found.map(single.probabilities), single.probabilities)


def test_repeats_are_mapped_alone_and_pooled_for_new_images() -> None:
    tables = [shifted(0), shifted(1)]
    both = calibrate_out_of_fold(tables)
    for table, mapped in zip(tables, both.tables, strict=True):
        np.testing.assert_array_equal(
            mapped.probabilities, calibrate_out_of_fold([table]).tables[0].probabilities
        )
    rows = [np.arange(900), np.arange(900) + 900]
    pooled = [
        dataclasses.replace(t, image=np.array([f"{r:05}" for r in at]))
        for t, at in zip(tables, rows, strict=True)
    ]
    np.testing.assert_allclose(
        both.map.slope, calibrate_out_of_fold([concatenate(pooled)]).map.slope, rtol=1e-3
    )


def test_with_many_classes_only_a_temperature_is_fitted() -> None:
    rng = np.random.default_rng(0)
    classes = MOST_CLASSES + 1
    p = rng.dirichlet(np.ones(classes), 3000)
    target = (rng.random(3000)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    sharp = special.softmax(2 * np.log(p), axis=1)
    found = calibrate_out_of_fold([deterministic(sharp, target, np.arange(3000) % 3)]).map
    assert found.kind == "temperature"
    assert found.slope[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("table", [made_up(sharpness=3), shifted(), made_up(images=20)])
def test_a_map_survives_json(table: Predictions) -> None:
    found = calibrate_out_of_fold([table]).map
    again = CalibrationMap.from_description(json.loads(json.dumps(found.described())))
    np.testing.assert_array_equal(again(table.probabilities), found(table.probabilities))
    with pytest.raises(ValueError, match="expected one of identity"):
        CalibrationMap.from_description({**found.described(), "kind": "magic"})


def test_applied_to_other_images_it_changes_the_posterior_alone() -> None:
    found, other = calibrate_out_of_fold([shifted()]).map, shifted(7)
    mapped = apply_map(found, other)
    np.testing.assert_allclose(mapped.probabilities, found(other.probabilities), atol=1e-6)
    np.testing.assert_array_equal(mapped.logits, other.logits)
    assert calibration_of([mapped]).log_loss < calibration_of([other]).log_loss


@pytest.mark.parametrize("tables", [[], [made_up(images=0)]])
def test_no_image_is_refused(tables: list[Predictions]) -> None:
    with pytest.raises(ValueError, match="expected at least one table"):
        calibrate_out_of_fold(tables)
