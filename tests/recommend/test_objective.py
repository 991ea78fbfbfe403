"""The objectives, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from tametail.core.option import declared
from tametail.core.options import RecommendOptions
from tametail.recommend.objective import OBJECTIVES

RNG = np.random.default_rng(0)
TARGET = RNG.permutation(np.repeat(np.arange(3), (40, 12, 5)))
LOGITS = RNG.normal(size=(57, 3)) + np.eye(3)[TARGET]
POSTERIOR = softmax(RNG.normal(size=(57, 3)) + np.eye(3)[TARGET], axis=1)


def test_they_are_scikit_learns() -> None:
    predicted = LOGITS.argmax(axis=1)
    expected = {
        "balanced_accuracy": balanced_accuracy_score(TARGET, predicted),
        "macro_f1": f1_score(TARGET, predicted, average="macro"),
        "log_loss": log_loss(TARGET, POSTERIOR),
    }
    found = {name: one.value(TARGET, LOGITS, POSTERIOR) for name, one in OBJECTIVES.items()}
    assert found == pytest.approx(expected, rel=1e-12)


def test_only_the_log_loss_is_minimised() -> None:
    assert {name: one.sign for name, one in OBJECTIVES.items()} == {
        "balanced_accuracy": 1,
        "macro_f1": 1,
        "log_loss": -1,
    }


def test_the_option_names_them_all() -> None:
    option = declared(RecommendOptions)["objective"]
    assert option.choices == tuple(OBJECTIVES)
    assert option.default == "balanced_accuracy"
