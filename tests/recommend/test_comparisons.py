"""Comparisons of candidates in each objective: against scikit-learn, the jackknife, and what must hold for any of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from tametail.predictions.single_label import Predictions
from tametail.recommend.comparisons import against_one, differences, probability_best
from tametail.recommend.objective import OBJECTIVES, Objective, ObjectiveData, parse_objective

NAMES = ("a", "b", "c")
IMAGES = np.array([f"{number:04d}" for number in range(600)])
TARGET = np.random.default_rng(7).permutation(np.repeat(np.arange(3), (400, 140, 60)))
SITE = np.array(["north", "south", "west"])[np.random.default_rng(8).integers(0, 3, 150)][np.arange(600) // 4]
DATA = ObjectiveData(NAMES, IMAGES, TARGET, {"site": SITE}, 3)
ALL = OBJECTIVES | {
    name: parse_objective(name).on(DATA) for name in ("net_benefit:b@0.2", "worst_group:site")
}
EVERY_OBJECTIVE = pytest.mark.parametrize("objective", ALL.values(), ids=ALL)


def _net_benefit(table: Predictions) -> float:
    acted, positive = table.probabilities[:, 1] >= 0.2, table.target == 1
    return float((np.sum(acted & positive) - np.sum(acted & ~positive) * 0.25) / len(table))


def _by_site(table: Predictions) -> list[float]:
    site = SITE[table.image.astype(int)]
    of_site = [table.take(site == name) for name in np.unique(site)]
    return [balanced_accuracy_score(one.target, one.predicted) for one in of_site]


BY_SCIKIT_LEARN: dict[str, Callable[[Predictions], float]] = {
    "balanced_accuracy": lambda t: balanced_accuracy_score(t.target, t.predicted),
    "macro_f1": lambda t: f1_score(t.target, t.predicted, average="macro"),
    "log_loss": lambda t: -log_loss(t.target, t.probabilities),
    "net_benefit:b@0.2": _net_benefit,
}


def _tables(signal: float, seed: int, seeds: int = 2) -> list[Predictions]:
    """600 images of 150 groups; logits with more or less signal, and the posterior of other ones."""
    target, image = TARGET, IMAGES
    group = np.array([f"{number // 4:04d}" for number in range(len(target))])
    fold = np.zeros(len(target), dtype=np.int64)
    found = []
    for replicate in range(seeds):
        rng = np.random.default_rng([seed, replicate])
        logits, before_link = rng.normal(size=(2, len(target), 3)) + signal * np.eye(3)[target]
        posterior = softmax(before_link, axis=1).astype(np.float32)
        found.append(
            Predictions(image, group, target, fold, logits.astype(np.float32), NAMES, "softmax", posterior)
        )
    return found


def _score(tables: list[Predictions], objective: Objective) -> float:
    if objective.name == "worst_group:site":
        # Recalls are averaged over the replicates before the worst site is taken.
        return min(np.mean([_by_site(table) for table in tables], axis=0))
    return float(np.mean([BY_SCIKIT_LEARN[objective.name](table) for table in tables]))


@EVERY_OBJECTIVE
def test_the_difference_is_scikit_learns_and_above_0_where_the_first_is_better(objective: Objective) -> None:
    tables = {"good": _tables(1.5, 0), "bad": _tables(0.5, 1), "middle": _tables(1.0, 2)}
    found = against_one(tables, "good", objective)
    assert list(found) == ["bad", "middle"]
    for name, pair in found.items():
        expected = _score(tables["good"], objective) - _score(tables[name], objective)
        assert expected > 0
        assert pair.difference.value == pytest.approx(expected, rel=1e-6)
        assert pair.difference.low <= pair.difference.value <= pair.difference.high
        assert (pair.verdict, pair.groups) == ("better", 150)
        assert pair.p <= pair.p_holm <= 2 * pair.p
    turned = against_one(tables, "bad", objective)["good"]
    assert turned.verdict == "worse"
    assert turned.difference.value == pytest.approx(-found["bad"].difference.value)
    assert turned.standard_error == pytest.approx(found["bad"].standard_error)


@EVERY_OBJECTIVE
def test_the_standard_error_is_near_that_of_the_jackknife_over_groups(objective: Objective) -> None:
    a, b = _tables(1.2, 0, seeds=1), _tables(1.0, 1, seeds=1)
    groups = np.unique(a[0].group)
    without = [
        _score([a[0].take(rows)], objective) - _score([b[0].take(rows)], objective)
        for rows in (a[0].group != group for group in groups)
    ]
    jackknife = np.sqrt((len(groups) - 1) * np.var(without))
    found = against_one({"a": a, "b": b}, "a", objective)["b"]
    # Pseudo-images make it a little larger.
    assert 0.97 * jackknife < found.standard_error < 1.15 * jackknife
    assert differences({"a": a, "b": b}, "a", objective)["b"] == pytest.approx(
        (found.difference.value, found.standard_error)
    )


@EVERY_OBJECTIVE
def test_equal_candidates_have_no_difference_and_a_standard_error(objective: Objective) -> None:
    same = _tables(1.0, 0)
    pair = against_one({"a": same, "b": same}, "a", objective)["b"]
    assert (pair.difference.value, pair.p, pair.verdict) == (0.0, 1.0, "no significant difference")
    assert pair.standard_error > 0
    assert pair.difference.low < 0 < pair.difference.high
    assert probability_best({"a": same, "b": same}, objective) == pytest.approx({"a": 0.5, "b": 0.5})


@EVERY_OBJECTIVE
def test_the_best_is_best_in_nearly_every_resample(objective: Objective) -> None:
    tables = {"bad": _tables(0.3, 1), "good": _tables(1.5, 0), "like good": _tables(1.5, 2)}
    shares = probability_best(tables, objective, resamples=400)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["bad"] < 0.01
    assert min(shares["good"], shares["like good"]) > 0.001


@pytest.mark.parametrize("name", ["macro_f1", "log_loss", "net_benefit:b@0.2", "worst_group:site"])
def test_without_a_difference_few_tests_are_significant(name: str) -> None:
    p = [
        against_one(
            {"a": _tables(1.0, 2 * number, seeds=1), "b": _tables(1.0, 2 * number + 1, seeds=1)},
            "a",
            ALL[name],
        )["b"].p
        for number in range(60)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.15  # 9 of 60: probability below 0.003 at a level of 5 %
    assert 0.3 < np.mean(p) < 0.7
