"""The searches of a nested cross-validation: compared with brute force, and tested for leakage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.small_search import (
    FOLDS,
    in_short,
    search_in,
    settings,
    small_folds,
    small_recipe,
    small_space,
    train_heads,
    undisturbed,
)
from tametail.evaluation import metrics
from tametail.search.folds import FoldData
from tametail.search.nested_estimate import best_of
from tametail.search.objective import Objective, separate_plan
from tametail.training.hardware import make_accelerator
from tametail.training.heads.head_experiments import TrialData, run_trials
from tametail.training.run import TrainingKey, leave_one_fold_out, leave_two_folds_out

WAYS = [("random", False), ("random", True), ("tpe", False)]


def _brute_force(folds: FoldData, values: dict[str, str], outer: int | None, seeds: range) -> float:
    """A score by plain loops: one training at a time, with the data selected here."""
    trial, scores = small_space().trial(values), []
    for seed in seeds:
        target, predicted = [], []
        for inner in [fold for fold in range(FOLDS) if fold != outer]:
            out = sorted({inner} if outer is None else {inner, outer})
            trained, held = ~np.isin(folds.fold, out), folds.fold == inner
            data = TrialData(folds.inputs[trained], folds.targets[trained], folds.inputs[held], folds.classes)
            random_seed = int(np.random.SeedSequence([seed, *out]).generate_state(1)[0])
            (result,) = run_trials([trial], data, make_accelerator(small_recipe(), "cpu"), seed=random_seed)
            target.append(folds.targets[held])
            predicted.append(result.decision().argmax(axis=1))
        counts = metrics.confusion_matrix(np.concatenate(target), np.concatenate(predicted), folds.classes)
        scores.append(float(metrics.balanced_accuracy(counts)))
    return float(np.mean(scores))


@pytest.mark.parametrize(("sampler", "halving"), WAYS)
@pytest.mark.slow
def test_scores_are_those_of_brute_force(sampler: str, halving: bool) -> None:
    folds, seeds = small_folds(), 2 if (sampler, halving) == ("random", False) else 1
    trials = undisturbed(settings(4 if seeds == 1 else 3, sampler, halving, seeds))
    complete = [trial for trial in trials if trial.state == "complete"]
    assert {trial.outer for trial in complete} == {None, *range(FOLDS)}
    first = range(min(6, len(complete)))
    expected = {
        at: _brute_force(folds, dict(complete[at].values), complete[at].outer, range(seeds))
        for at in {*first, *range(0, len(complete), 2)}
    }
    # Near the decision boundary an image may change sides when heads are trained together.
    for at, wanted in expected.items():
        assert complete[at].score == pytest.approx(wanted, abs=0.03)
    exact = [complete[at].score == pytest.approx(expected[at], abs=1e-12) for at in first]
    assert sum(exact) >= 5


@pytest.mark.parametrize(
    ("sampler", "halving", "outer"), [("random", False, 0), ("random", True, 2), ("tpe", False, 3)]
)
def test_nothing_of_an_outer_fold_reaches_its_search(
    sampler: str, halving: bool, outer: int, tmp_path: Path
) -> None:
    """Other images and labels in a fold change nothing in the trials, scores and choice of the search without it."""
    folds, asked = small_folds(), settings(4, sampler, halving)
    rng, held = np.random.default_rng(1), folds.fold == outer
    inputs, targets = np.array(folds.inputs), folds.targets.copy()
    inputs[held] = rng.normal(size=inputs[held].shape) * 9
    targets[held] = rng.permutation((targets[held] + 1) % folds.classes)
    before = undisturbed(asked)
    after = search_in(tmp_path, replace(folds, inputs=inputs, targets=targets), asked)
    of_search = [[t for t in trials if t.outer == outer] for trials in (before, after)]
    assert in_short(of_search[0]) == in_short(of_search[1])
    assert best_of(before, outer).values == best_of(after, outer).values
    others = [[t for t in trials if t.outer not in (outer, None)] for trials in (before, after)]
    assert in_short(others[0]) != in_short(others[1])  # the change is one that would be seen


def test_without_folds_nothing_of_them_is_left() -> None:
    folds = small_folds()
    left = folds.without(1, 2)
    assert left.folds == [0, 3]
    assert len(left.inputs) == len(left.targets) == np.isin(folds.fold, [0, 3]).sum()
    assert left.inputs.base is None  # no view of an array that has more
    assert left.targets.base is None
    np.testing.assert_array_equal(left.inputs, folds.inputs[np.isin(folds.fold, [0, 3])])


def test_a_training_sees_the_targets_of_its_training_rows_alone() -> None:
    folds = small_folds()
    data = folds.trial_data((3, 1))
    np.testing.assert_array_equal(data.targets, folds.targets[np.isin(folds.fold, [0, 2])])
    np.testing.assert_array_equal(
        data.held_out, np.concatenate([folds.inputs[folds.fold == 3], folds.inputs[folds.fold == 1]])
    )


def test_a_search_refuses_its_outer_fold() -> None:
    folds = small_folds()
    with pytest.raises(ValueError, match="without the outer fold 2"):
        Objective(separate_plan(2, folds.folds, [0]), folds, train_heads, "accuracy", None, None, None)  # type: ignore[arg-type]


def test_pairs_are_trained_once() -> None:
    assert len(leave_two_folds_out(range(5), [0])) == 10
    assert len(leave_one_fold_out(range(5), [0, 1])) == 10


def test_one_fold_left_out_has_the_seed_of_a_studys_run() -> None:
    from tametail.training.run import Run
    from tametail.training.strategies import parse_method

    assert TrainingKey(3, (2,)).random_seed() == Run(parse_method("ce"), 3, 2).random_seed()


def test_halving_trains_less_and_never_selects_a_pruned_trial() -> None:
    trials = undisturbed(settings(4, "random", halving=True))
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert len(pruned) > 8
    assert all(len([name for name in trial.outputs if name.startswith("seed")]) < FOLDS for trial in pruned)
    for outer in (None, *range(FOLDS)):
        assert best_of(trials, outer).state == "complete"


def test_trials_that_fail_leave_the_others_alone(tmp_path: Path) -> None:
    space = small_space("alpa", "lr=1e-3|1e30")
    trials = search_in(tmp_path, small_folds(), settings(6), space)
    states = {(trial.values["lr"], trial.state) for trial in trials}
    assert states == {("1e-3", "complete"), ("1e30", "failed")}
    assert all("nan" in trial.message for trial in trials if trial.state == "failed")
