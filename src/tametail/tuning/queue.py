"""Who does which trial: batches are claimed under a lock, and those of a process that died are done by another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tametail.tuning.journal import Worker, alone
from tametail.tuning.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Sampler = Literal["random", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("random", "tpe")
OWNER, VALUES = "owner", "values"
_WIDEST = 2**32


@dataclass(frozen=True)
class Claimed:
    """A trial to be done.

    Attributes:
        number: its place among the trials of its search, from 0.
        id: by which the storage knows it.
        values: of each dimension, as text.
        known: what was already found by a process that died: by the names of trainings.
    """

    number: int
    id: int
    values: Mapping[str, str]
    known: Mapping[str, Any]


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

    def claim(self) -> list[Claimed]:
        """Trials for this process: those of a process that died, or else new ones; none where all are given away."""
        with alone(self.directory):
            trials = self.study.get_trials(deepcopy=False)
            numbers = self._left_behind(trials)
            if not numbers:
                numbers = [None] * min(self.batch, max(self.total - len(trials), 0))
            return [
                self._take(len(trials) + place if number is None else number)
                for place, number in enumerate(numbers)
            ]

    def finished(self) -> bool:
        """Whether all trials are done, by whomever."""
        trials = self.study.get_trials(deepcopy=False)
        return len(trials) >= self.total and all(trial.state.is_finished() for trial in trials)

    def done(self) -> int:
        """How many are done."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _left_behind(self, trials: list[FrozenTrial]) -> list[int | None]:
        """The trials that one dead process had claimed, as many as a batch: together, as it would have done them."""
        by_owner: dict[str | None, list[int | None]] = {}
        for trial in trials:
            if not trial.state.is_finished():
                by_owner.setdefault(trial.user_attrs.get(OWNER), []).append(trial.number)
        for owner, numbers in by_owner.items():
            # Whoever claims holds the lock: without an owner is what a process was claiming when it died.
            if owner is None or not self.worker.lives(owner):
                return numbers
        return []

    def _take(self, number: int) -> Claimed:
        """Trial ``number`` for this process, a new one or one that is there."""
        from optuna.trial import Trial

        self.study.sampler = make_sampler(self.sampler, self.seed, number)
        present = self.study.get_trials(deepcopy=False)
        trial = Trial(self.study, present[number]._trial_id) if number < len(present) else self.study.ask()
        known = trial.user_attrs
        values = known.get(VALUES) or self.space.suggest(trial)
        trial.set_user_attr(VALUES, values)
        trial.set_user_attr(OWNER, self.worker.name)
        return Claimed(number, trial._trial_id, values, known)


def make_sampler(kind: Sampler, seed: int, number: int) -> BaseSampler:
    """What draws the values of trial ``number``: seeded by it, so that it does not matter who draws before or after."""
    from optuna.samplers import RandomSampler, TPESampler

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) % _WIDEST
    if kind == "random":
        return RandomSampler(seed=own)
    return TPESampler(seed=own, constant_liar=True)
