"""Log-loss of tables of predictions, compared with scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss as sklearn_log_loss

from tametail.evaluation.calibration import calibration_of
from tametail.evaluation.log_loss import log_loss, log_losses
from tametail.predictions.single_label import Predictions

NAMES = ("a", "b", "c")


def _table(seed: int, images: int = 120, per_group: int = 1) -> Predictions:
    """Random logits and a posterior that is not theirs."""
    rng = np.random.default_rng(seed)
    target = np.arange(images) % 3
    image = np.array([f"{number:04d}" for number in range(images)])
    group = np.array([f"{number // per_group:04d}" for number in range(images)])
    logits, before_link = rng.normal(size=(2, images, 3))
    posterior = softmax(before_link + np.eye(3)[target], axis=1).astype(np.float32)
    fold = np.zeros(images, dtype=np.int64)
    return Predictions(image, group, target, fold, logits.astype(np.float32), NAMES, "softmax", posterior)


def test_it_is_the_mean_of_scikit_learns_over_the_replicates() -> None:
    tables = [_table(0), _table(1)]
    found = log_loss(tables)
    expected = [sklearn_log_loss(table.target, table.probabilities) for table in tables]
    assert found.value == pytest.approx(np.mean(expected), rel=1e-9)
    assert found.value == pytest.approx(calibration_of(tables).log_loss, rel=1e-9)
    assert found.n == 120


def test_it_is_that_of_the_posterior_and_not_of_the_decision() -> None:
    table = _table(0)
    adjusted = replace(table, logits=table.logits + np.array([0, 5, 0], dtype=np.float32))
    assert log_loss([adjusted]) == log_loss([table])
    assert log_loss([replace(table, posterior=None)]).value != log_loss([table]).value


def test_the_interval_is_that_of_the_mean_of_the_groups() -> None:
    table = _table(2)
    losses = log_losses(table.target, table.probabilities)
    found = log_loss([table])
    half = 1.98 * losses.std(ddof=1) / math.sqrt(len(losses)) / losses.mean()  # t with 119 degrees of freedom
    assert math.log(found.high / found.value) == pytest.approx(half, rel=1e-3)
    assert found.value**2 == pytest.approx(found.low * found.high)
    # Every image twice, in one group: no more information, whatever the number of images.
    twice = table.joined([replace(table, image=np.char.add(table.image, "again"))])
    assert log_loss([twice]).high == pytest.approx(found.high, rel=1e-9)


def test_a_probability_of_0_is_finite_and_one_group_has_no_interval() -> None:
    assert log_losses(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])) == pytest.approx(
        [27.63, 0], abs=0.01
    )
    assert math.isnan(log_loss([_table(0, per_group=120)]).low)
