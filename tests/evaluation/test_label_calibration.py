from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from tametail.evaluation.label_calibration import LabelMap, apply_label_map, calibrate_labels
from tametail.evaluation.label_thresholds import deployable_thresholds
from tametail.predictions.multi_label import LabelPredictions

LABELS = ("effusion", "mass", "nodule")


def table(seed: int, n: int = 3000, *, folds: int = 5, unknown: float = 0.0) -> LabelPredictions:
    """Images whose logits are true log-odds."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, 3)) * 1.5 - [1.0, 2.0, 3.0]).astype(np.float32)
    labels = rng.random((n, 3)) < special.expit(logits)
    hidden = rng.random((n, 3)) < unknown
    image = np.array([f"{index:05d}" for index in range(n)])
    return LabelPredictions(
        image,
        rng.integers(0, n // 3, n).astype(str),
        labels & ~hidden,
        np.arange(n) % folds,
        logits,
        LABELS,
        special.expit(logits),
        hidden,
    )


def distorted(given: LabelPredictions, slope: float, shift: float) -> LabelPredictions:
    posterior = special.expit(slope * given.logits.astype(np.float64) + shift).astype(np.float32)
    return replace(given, posterior=posterior)


def test_a_distortion_is_undone_as_by_logistic_regression() -> None:
    given = distorted(table(0), 2.0, 1.0)
    found = calibrate_labels([given])
    assert found.map.changed.all()
    for at in range(3):
        log_odds = special.logit(given.posterior[:, [at]].astype(np.float64))
        fitted = LogisticRegression(C=1e6).fit(log_odds, given.labels[:, at])
        assert found.map.slope[at] == pytest.approx(float(fitted.coef_[0, 0]), abs=0.02)
        assert found.map.intercept[at] == pytest.approx(float(fitted.intercept_[0]), abs=0.04)
    for name in LABELS:
        assert found.after[name].log_loss < found.labels[name].log_loss
        assert found.after[name].slope == pytest.approx(1.0, abs=0.1)
        assert found.after[name].ece < 0.03 < found.labels[name].ece
    assert found.ece.low > found.ece_after.high


def test_log_loss_never_rises_and_calibrated_probabilities_stay() -> None:
    for seed in range(5):
        found = calibrate_labels([table(seed, 600)])
        for name in LABELS:
            assert found.after[name].log_loss <= found.labels[name].log_loss
    kept = calibrate_labels([table(0, 600, folds=1)])
    assert not kept.map.changed.any()  # without other folds nothing can be fitted
    assert kept.after == kept.labels


def test_unknown_labels_are_left_out() -> None:
    given = distorted(table(3, unknown=0.3), 2.0, 0.0)
    found = calibrate_labels([given])
    wrong = np.where(given.unknown, 0.999, given.posterior).astype(np.float32)
    again = calibrate_labels([replace(given, posterior=wrong)])
    assert np.array_equal(found.map.slope, again.map.slope)
    assert found.after == again.after


def test_repeats_of_the_same_predictions_change_nothing() -> None:
    given = distorted(table(4), 2.0, 0.0)
    once, twice = calibrate_labels([given]), calibrate_labels([given, given])
    assert twice.map.slope == pytest.approx(once.map.slope, abs=1e-6)
    assert twice.ece.value == pytest.approx(once.ece.value, abs=1e-12)


def test_a_map_keeps_the_order_and_the_decisions_at_mapped_thresholds() -> None:
    given = distorted(table(5), 3.0, -1.0)
    found = calibrate_labels([given]).map
    mapped = apply_label_map(found, given)
    thresholds = deployable_thresholds([given])
    before = given.decided(thresholds)
    assert np.array_equal(before, mapped.decided(found(thresholds)))
    order = np.argsort(given.posterior[:, 0], kind="stable")
    assert (np.diff(mapped.posterior[order, 0]) >= 0).all()


def test_labels_of_few_groups_keep_their_probabilities() -> None:
    given = distorted(table(6), 2.0, 1.0)
    labels = given.labels.copy()
    labels[4:, 2] = False
    labels[:4, 2] = True
    found = calibrate_labels([replace(given, labels=labels)])
    assert found.map.changed.tolist() == [True, True, False]
    empty = labels & [True, True, False]
    assert "nodule" not in calibrate_labels([replace(given, labels=empty)]).labels


def test_the_description_is_read_back_and_a_damaged_one_refused() -> None:
    found = calibrate_labels([distorted(table(7), 2.0, 1.0)]).map
    again = LabelMap.from_description(found.described(), 3)
    p = np.linspace(0, 1, 12).reshape(4, 3)
    assert np.array_equal(found(p), again(p))
    with pytest.raises(ValueError, match="expected slope and intercept of 4 labels"):
        LabelMap.from_description(found.described(), 4)
    with pytest.raises(ValueError, match="expected slopes above 0"):
        LabelMap.from_description(found.described() | {"slope": [0.0, 1.0, 1.0]}, 3)
