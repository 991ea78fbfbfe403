"""Trials on frozen features: what a study of the same method would come to, and nothing but the rows that are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tametail.training.hardware import make_accelerator
from tametail.training.heads.head_experiments import Trial, TrialData, run_trials
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method

RANDOM = np.random.default_rng(0)
TARGET = np.concatenate([np.arange(3), RANDOM.choice(3, 117, p=[0.7, 0.2, 0.1])])
FEATURES = (5 + RANDOM.normal(size=(120, 10)) + 2 * np.eye(3, 10)[TARGET]).astype(np.float32)
RECIPE = load_recipe("head", fields={"epochs": 3, "batch_size": 32}, assignments=["optimizer.kind=adamw"])
METHODS = [
    "ce",
    "ce+la",
    "ce+crt[epochs=2]",
    "alpa",
    "alpa+taunorm",
    "balanced_softmax",
    "ce+drs",
    "seql",
    "ce+la[tau=0.5]",
]


def data() -> TrialData:
    return TrialData(FEATURES[:90], TARGET[:90], FEATURES[90:], 3)


def run(texts: list[str], **more: object) -> list[np.ndarray]:
    trials = [Trial(parse_method(text), RECIPE) for text in texts]
    found = run_trials(trials, data(), make_accelerator(RECIPE, "cpu"), seed=3, **more)  # type: ignore[arg-type]
    return [result.decision() for result in found]


def test_each_trial_gives_the_result_of_training_it_alone_in_order() -> None:
    together = run(METHODS)
    for text, found in zip(METHODS, together, strict=True):
        np.testing.assert_allclose(found, run([text])[0], rtol=1e-4, atol=1e-4, err_msg=text)


def test_repeated_trials_are_bit_identical_for_any_number_of_cores() -> None:
    texts = [f"alpa[gamma_neg={at / 10}]" for at in range(1, 33)] + ["seql", "ldam"]
    first, second = run(texts), run(texts)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))


def test_strategies_after_training_share_the_trained_head() -> None:
    done: list[int] = []
    run(METHODS, advance=done.append)
    assert sum(done) == len(METHODS)
    ce, adjusted = run(["ce", "ce+la"])
    shift = np.log(np.bincount(TARGET[:90]) / 90)
    np.testing.assert_allclose(ce - shift, adjusted, rtol=1e-5, atol=1e-4)


def test_a_rate_of_its_own() -> None:
    slow = load_recipe(
        "head", fields={"epochs": 3, "batch_size": 32, "lr": 1e-5}, assignments=["optimizer.kind=adamw"]
    )
    method = parse_method("ce")
    accelerator = make_accelerator(RECIPE, "cpu")
    both = run_trials([Trial(method, RECIPE), Trial(method, slow)], data(), accelerator, seed=3)
    (lock,) = run_trials([Trial(method, slow)], data(), accelerator, seed=3)
    np.testing.assert_allclose(both[1].decision(), lock.decision(), atol=1e-5)
    assert abs(both[0].decision() - both[1].decision()).max() > 1e-2


def test_a_failed_trial_has_a_message_and_fails_alone() -> None:
    broken = load_recipe(
        "head", fields={"epochs": 3, "batch_size": 32, "lr": 1e30}, assignments=["optimizer.kind=adamw"]
    )
    trials = [Trial(parse_method("ce"), RECIPE), Trial(parse_method("ce+la"), broken)]
    found = run_trials(trials, data(), make_accelerator(RECIPE, "cpu"), seed=3)
    assert found[0].outputs is not None
    assert found[1].outputs is None
    assert "the loss became" in found[1].message


@pytest.mark.parametrize("cores", [1, 2])
def test_cores_change_only_rounding(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"alpa[gamma_neg={at / 10}]" for at in range(1, 33)]
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        found = run(texts)
    finally:
        torch.set_num_threads(before)
    for text, one in zip(texts, found, strict=True):
        np.testing.assert_allclose(one, run([text])[0], atol=1e-4)
