"""The objectives, compared with scikit-learn and with the definition of net benefit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from tametail.core.errors import UsageError
from tametail.core.option import declared
from tametail.core.options import RecommendOptions
from tametail.evaluation import Estimate
from tametail.recommend.metric_text import heading, in_words
from tametail.recommend.objective import OBJECTIVES, ObjectiveData, parse_objective

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
    assert all(form in option.help for form in (*OBJECTIVES, "net_benefit:CLASS@THRESHOLD", "worst_group:"))
    assert option.default == "balanced_accuracy"
    assert {name: parse_objective(name) for name in OBJECTIVES} == OBJECTIVES


def data(**columns: np.ndarray) -> ObjectiveData:
    images = np.array([f"{number:02}" for number in range(57)])
    return ObjectiveData(("nevus", "mel", "a@b"), images, TARGET, columns, 3)


@pytest.mark.parametrize(("name", "code", "threshold"), [("mel", 1, 0.2), ("a@b", 2, 0.05)])
def test_net_benefit_is_that_of_its_definition(name: str, code: int, threshold: float) -> None:
    objective = parse_objective(f"net_benefit:{name}@{threshold}").on(data())
    acted, positive = POSTERIOR[:, code] >= threshold, code == TARGET
    expected = (acted & positive).sum() / 57 - (acted & ~positive).sum() / 57 * threshold / (1 - threshold)
    assert objective.value(TARGET, LOGITS, POSTERIOR) == pytest.approx(expected)
    assert objective.name == f"net_benefit:{name}@{threshold}"
    assert objective.sign == 1


def test_the_worst_group_is_the_lowest_balanced_accuracy_of_scikit_learn() -> None:
    site = np.array(["south", "north", "", "tiny"])[np.minimum(np.arange(57) % 5, 3) % 4]
    site[np.flatnonzero(site == "tiny")[2:]] = "north"
    site[np.flatnonzero(site == "")] = np.where(np.arange((site == "").sum()) % 2, "", "south")
    site = np.where((np.arange(57) % 9 == 0) & (site == ""), "south", site)
    far = np.concatenate([site, np.repeat(["south", "north"], 30)])
    target, logits = np.tile(TARGET, 3)[: len(far)], np.tile(LOGITS, (3, 1))[: len(far)]
    images = np.array([f"{number:03}" for number in range(len(far))])
    of = ObjectiveData(("a", "b", "c"), images, target, {"site": far}, 3)
    objective = parse_objective("worst_group:site").on(of)
    predicted = logits.argmax(axis=1)
    scores = {
        name: balanced_accuracy_score(target[far == name], predicted[far == name])
        for name in ("north", "south")
    }
    found = objective.value(target, logits, logits, objective.subgroup(images))
    assert found == pytest.approx(min(scores.values()))
    assert objective.subgroup(images).tolist() == [{"north": 0, "south": 1}.get(one, -1) for one in far]
    assert objective.name == "worst_group:site"


def test_numbers_of_a_column_are_binned_for_the_worst_group() -> None:
    images, target = np.array([f"{number:03}" for number in range(400)]), np.arange(400) % 2
    ages = np.random.default_rng(0).integers(1, 90, 400).astype(str)
    of = ObjectiveData(("a", "b"), images, target, {"age": ages}, 5)
    objective = parse_objective("worst_group:age").on(of)
    assert sorted(np.unique(objective.subgroup(images))) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy", "one of balanced_accuracy, macro_f1, log_loss, net_benefit:CLASS@THRESHOLD or"),
        ("worst_group:", "worst_group:COLUMN, got 'worst_group:'"),
        ("net_benefit:mel", "a threshold above 0 and below 1, as in net_benefit:melanoma@0.1, got"),
        ("net_benefit:mel@0", "above 0 and below 1"),
        ("net_benefit:mel@1", "above 0 and below 1"),
        ("net_benefit:mel@nan", "above 0 and below 1"),
        ("net_benefit:mel@often", "above 0 and below 1"),
        ("net_benefit:@0.1", "above 0 and below 1"),
        ("net_benefit:bcc@0.1", "one of the classes nevus, mel, a@b, got 'bcc'"),
        ("worst_group:hospital", r"a column of the image table \(available: site\), got 'hospital'"),
        (
            "worst_group:site",
            r"at least 2 values of 'site' with 30 images \(10 per fold\) of 2 classes .* found 0",
        ),
    ],
)
def test_an_impossible_objective_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_objective(text).on(data(site=np.array(["a", "b", "c"])[np.arange(57) % 3]))


def test_values_are_shown_in_their_unit() -> None:
    estimate = Estimate(0.1234, 0.1, 0.15, 57)
    assert heading("net_benefit:mel@0.2") == "Net benefit of acting on mel at 0.2"
    assert in_words("net_benefit:mel@0.2", estimate) == "0.123 (95 % interval 0.100 to 0.150)"
    assert heading("worst_group:site") == "Worst-group balanced accuracy by site, %"
    assert in_words("worst_group:site", estimate) == "12.3 % (95 % interval 10.0 to 15.0)"
