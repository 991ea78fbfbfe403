"""The queue of trials: processes claim batches under a lock, and take over those of a process that died."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tametail.search.journal import Worker, explain_damage, folder_lock
from tametail.search.space import Space
from tametail.search.trainings import SelectionMetric

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Sampler = Literal["random", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("random", "tpe")
OWNER, VALUES, BATCH = "owner", "values", "batch"
_MAX_SEED = 2**32


@dataclass(frozen=True)
class SearchSettings:
    """The settings of a search.

    Attributes:
        trials: number of trials of each search.
        sampler: of values, ``random`` or ``tpe``; ``random`` samples the same trials for all searches.
        halving: successive halving: prune the worse half of a batch after each inner fold.
        metric: one of `tametail.search.trainings.metric_names`.
        seeds: number of trainings of each model, each with another seed.
        seed: of the sampler.
        batch: number of trials that are trained together.
        order: C class indices from the lowest grade to the highest; None for a metric that needs no order.
        identity: digest of everything that determines the trials, by which the journal recognises this search.
    """

    trials: int
    sampler: Sampler
    halving: bool
    metric: str
    seeds: int
    seed: int
    batch: int
    identity: str = ""
    order: tuple[int, ...] | None = None

    @property
    def selection(self) -> SelectionMetric:
        """The metric with the order of the classes."""
        return SelectionMetric(self.metric, self.order)

    @property
    def shared(self) -> bool:
        """Whether all searches run the same trials to the end, so that they can share trainings."""
        return self.sampler == "random" and not self.halving


@dataclass(frozen=True)
class TrialClaim:
    """A trial that this process is to run.

    Attributes:
        number: index among the trials of its search.
        id: key in the storage.
        values: of each dimension, as text.
        outputs: what a process that died had already stored, by the names of trainings.
        batch: first and last number of the trials claimed together with it.
    """

    number: int
    id: int
    values: Mapping[str, str]
    outputs: Mapping[str, Any]
    batch: tuple[int, int]


@dataclass(frozen=True)
class Queue:
    """The trials of one search.

    Attributes:
        directory: of the search, for its lock.
        study, storage: Optuna's.
        space: what is sampled.
        settings: of the search; a process claims ``batch`` trials at a time.
        seed: of the sampler in this search. The values of a trial are a function of the seed, its number and, with
            ``tpe``, the trials before it.
        worker: this process.
    """

    directory: Path
    study: Study
    storage: BaseStorage
    space: Space
    settings: SearchSettings
    seed: int
    worker: Worker

    def claim(self) -> list[TrialClaim]:
        """Claim the batch of a process that died, or else a new one; empty when none is left."""
        with folder_lock(self.directory), explain_damage(self.directory):
            trials = self.study.get_trials(deepcopy=False)
            first, last = self._abandoned(trials) or self._new(len(trials))
            return [
                self._take(number, (first, last))
                for number in range(first, last + 1)
                if number >= len(trials) or not trials[number].state.is_finished()
            ]

    def finished(self) -> bool:
        """Whether all trials are done, by any process."""
        with explain_damage(self.directory):
            trials = self.study.get_trials(deepcopy=False)
        return len(trials) >= self.settings.trials and all(trial.state.is_finished() for trial in trials)

    def done(self) -> int:
        """Number of finished trials."""
        with explain_damage(self.directory):
            return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def values_after(self, stage: int, batch: tuple[int, int]) -> dict[int, float]:
        """Scores after a stage by trial number, of the trials of a batch that reached it, pruned since or not."""
        first, last = batch
        return {
            trial.number: trial.intermediate_values[stage]
            for trial in self.study.get_trials(deepcopy=False)[first : last + 1]
            if stage in trial.intermediate_values
        }

    def _abandoned(self, trials: list[FrozenTrial]) -> tuple[int, int] | None:
        """The whole batch of a dead process, including trials that it had not yet claimed."""
        for trial in trials:
            if not trial.state.is_finished():
                owner = trial.user_attrs.get(OWNER)
                # Whoever claims holds the lock, so a trial without an owner was being claimed when its process died.
                if owner is None or not self.worker.is_alive(owner):
                    first, last = trial.user_attrs.get(BATCH) or self._new(trial.number)
                    return int(first), int(last)
        return None

    def _new(self, first: int) -> tuple[int, int]:
        """The batch that starts at a trial; its last number is below its first when none is left."""
        return first, min(first + self.settings.batch, self.settings.trials) - 1

    def _take(self, number: int, batch: tuple[int, int]) -> TrialClaim:
        """Claim trial ``number``, a new or an existing one."""
        from optuna.trial import Trial

        self.study.sampler = make_sampler(self.settings.sampler, self.seed, number)
        existing = self.study.get_trials(deepcopy=False)
        trial = Trial(self.study, existing[number]._trial_id) if number < len(existing) else self.study.ask()
        stored = trial.user_attrs
        trial.set_user_attr(BATCH, batch)
        if VALUES not in stored:
            # Repeat the draws of a half-sampled trial, so that the remaining ones are what they would have been.
            sampled = self.storage.get_trial(trial._trial_id)
            for name, distribution in sampled.distributions.items():
                self.study.sampler.sample_independent(self.study, sampled, name, distribution)
        values = stored.get(VALUES) or self.space.suggest(trial)
        trial.set_user_attr(VALUES, values)
        trial.set_user_attr(OWNER, self.worker.name)
        return TrialClaim(number, trial._trial_id, values, stored, batch)


def make_sampler(kind: Sampler, seed: int, number: int) -> BaseSampler:
    """The sampler of trial ``number``, seeded by it, so that the order in which trials are claimed does not matter."""
    from optuna.samplers import RandomSampler, TPESampler

    trial_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) % _MAX_SEED
    if kind == "random":
        return RandomSampler(seed=trial_seed)
    return TPESampler(seed=trial_seed, constant_liar=True)
