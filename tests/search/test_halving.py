"""Successive halving prunes within a batch, whatever the order of evaluation, and the same after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from fixtures.small_search import in_short, search_in, settings, small_folds, train_heads, undisturbed
from tametail.search.objective import better_half
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult
from tametail.training.run import TrainingKey


@pytest.mark.parametrize(
    ("values", "better"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], {2, 3, 4}),
        ([0.5, 0.4, 0.3, 0.2, 0.1], {0, 1, 2}),
        ([0.3, 0.3, 0.3, 0.3], {0, 1}),
        ([0.3], {0}),
        ([], set()),
    ],
)
def test_the_better_half_continues(values: list[float], better: set[int]) -> None:
    assert better_half(dict(enumerate(values))) == better
    assert better_half(dict(reversed(list(enumerate(values))))) == better


def test_each_stage_leaves_half_of_each_batch() -> None:
    trials = undisturbed(settings(6, halving=True, batch=4))
    for outer in (None, 0, 3):
        pruned_stages = 3 if outer is None else 2  # of 4 folds, or 3; nothing is pruned after the last
        left = [4, 2]  # the batches
        for _ in range(pruned_stages):
            left = [(n + 1) // 2 for n in left]
        states = [trial.state for trial in trials if trial.outer == outer]
        assert [states[:4].count("complete"), states[4:].count("complete")] == left


@pytest.mark.parametrize("killed_at", [2, 5])
def test_a_kill_between_stages_changes_nothing(killed_at: int, tmp_path: Path) -> None:
    asked = settings(6, halving=True, batch=6)
    calls = 0

    def train(
        trials: Sequence[Trial], data: TrialData, training: TrainingKey, predicted: Sequence[int]
    ) -> list[TrialResult]:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise KeyboardInterrupt
        return train_heads(trials, data, training, predicted)

    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path / "killed", small_folds(), asked, runner=train)
    assert in_short(search_in(tmp_path / "killed", small_folds(), asked)) == in_short(undisturbed(asked))


def test_a_kill_while_trials_are_pruned_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(6, halving=True, batch=6)
    real, told = JournalStorage.set_trial_state_values, 0

    def tell(
        self: JournalStorage, trial: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        nonlocal told
        told += state is TrialState.PRUNED
        if told == 2:
            told += 1
            raise KeyboardInterrupt
        return real(self, trial, state, values)

    monkeypatch.setattr(JournalStorage, "set_trial_state_values", tell)
    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path / "killed", small_folds(), asked)
    assert in_short(search_in(tmp_path / "killed", small_folds(), asked)) == in_short(undisturbed(asked))


def test_a_kill_while_a_batch_is_claimed_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(6, halving=True, batch=6)
    real, made = JournalStorage.set_trial_param, 0

    def create(self: JournalStorage, *words: object) -> None:
        nonlocal made
        made += 1
        if made == 11:  # in the middle of the third trial's four values
            raise KeyboardInterrupt
        real(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(JournalStorage, "set_trial_param", create)
    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path / "killed", small_folds(), asked)
    assert in_short(search_in(tmp_path / "killed", small_folds(), asked)) == in_short(undisturbed(asked))
