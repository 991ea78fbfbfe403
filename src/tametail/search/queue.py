"""Who does which trial: batches are claimed under a lock, and those of a process that died are done by another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tametail.search.journal import Worker, lock, reading
from tametail.search.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Sampler = Literal["random", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("random", "tpe")
OWNER, VALUES, BATCH = "owner", "values", "batch"
_WIDEST = 2**32


@dataclass(frozen=True)
class TrialClaim:
    """A trial to be done.

    Attributes:
        number: its place among the trials of its search, from 0.
        id: by which the storage knows it.
        values: of each dimension, as text.
        known: what was already found by a process that died: by the names of trainings.
        batch: the first and last number of those that were claimed with it.
    """

    number: int
    id: int
    values: Mapping[str, str]
    known: Mapping[str, Any]
    batch: tuple[int, int]


@dataclass(frozen=True)
class Queue:
    """The trials of one search.

    Attributes:
        directory: of the search, for its lock.
        study, storage: Optuna's.
        space: what is drawn.
        sampler: how it is drawn.
        seed: of what is drawn. The values of a trial are a function of the seed, its number and, with ``tpe``, the trials
            before it.
        total: trials in the end.
        batch: trials that one process takes at once.
        worker: this process.
    """

    directory: Path
    study: Study
    storage: BaseStorage
    space: Space
    sampler: Sampler
    seed: int
    total: int
    batch: int
    worker: Worker

    def claim(self) -> list[TrialClaim]:
        """Trials for this process: the batch of one that died, or else a new one; none where all are given away."""
        with lock(self.directory), reading(self.directory):
            trials = self.study.get_trials(deepcopy=False)
            first, last = self._left_behind(trials) or self._new(len(trials))
            return [
                self._take(number, (first, last))
                for number in range(first, last + 1)
                if number >= len(trials) or not trials[number].state.is_finished()
            ]

    def finished(self) -> bool:
        """Whether all trials are done, by whomever."""
        with reading(self.directory):
            trials = self.study.get_trials(deepcopy=False)
        return len(trials) >= self.total and all(trial.state.is_finished() for trial in trials)

    def done(self) -> int:
        """How many are done."""
        with reading(self.directory):
            return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def values_after(self, rung: int, batch: tuple[int, int]) -> dict[int, float]:
        """How good the trials of a batch were after a rung, by number: of those that came so far, given up since or not."""
        first, last = batch
        return {
            trial.number: trial.intermediate_values[rung]
            for trial in self.study.get_trials(deepcopy=False)[first : last + 1]
            if rung in trial.intermediate_values
        }

    def _left_behind(self, trials: list[FrozenTrial]) -> tuple[int, int] | None:
        """The batch of a dead process: together, as it would have done it, also what it had not come to claim."""
        for trial in trials:
            if not trial.state.is_finished():
                owner = trial.user_attrs.get(OWNER)
                # Whoever claims holds the lock: without an owner is what a process was claiming when it died.
                if owner is None or not self.worker.lives(owner):
                    first, last = trial.user_attrs.get(BATCH) or self._new(trial.number)
                    return int(first), int(last)
        return None

    def _new(self, first: int) -> tuple[int, int]:
        """The batch that begins with a trial; its last number is below its first where all are given away."""
        return first, min(first + self.batch, self.total) - 1

    def _take(self, number: int, batch: tuple[int, int]) -> TrialClaim:
        """Trial ``number`` for this process, a new one or one that is there."""
        from optuna.trial import Trial

        self.study.sampler = make_sampler(self.sampler, self.seed, number)
        present = self.study.get_trials(deepcopy=False)
        trial = Trial(self.study, present[number]._trial_id) if number < len(present) else self.study.ask()
        known = trial.user_attrs
        trial.set_user_attr(BATCH, batch)
        if VALUES not in known:
            # Of a trial that was drawn by half, draw that half again, so that the other half is what it would have been.
            drawn = self.storage.get_trial(trial._trial_id)
            for name, distribution in drawn.distributions.items():
                self.study.sampler.sample_independent(self.study, drawn, name, distribution)
        values = known.get(VALUES) or self.space.suggest(trial)
        trial.set_user_attr(VALUES, values)
        trial.set_user_attr(OWNER, self.worker.name)
        return TrialClaim(number, trial._trial_id, values, known, batch)


def make_sampler(kind: Sampler, seed: int, number: int) -> BaseSampler:
    """What draws the values of trial ``number``: seeded by it, so that it does not matter who draws before or after."""
    from optuna.samplers import RandomSampler, TPESampler

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) % _WIDEST
    if kind == "random":
        return RandomSampler(seed=own)
    return TPESampler(seed=own, constant_liar=True)
