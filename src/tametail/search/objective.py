"""Runs a batch of trials: each training for all of them at once, its outputs stored at once, then the score.

There are two plans for the folds. If all searches use the same trials, a training without two folds is an inner training of
both outer folds, and all searches are one. Otherwise each outer fold has its own search, which sees only the other folds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from tametail.core.errors import TametailError
from tametail.search.folds import FoldData
from tametail.search.journal import explain_damage
from tametail.search.queue import Queue, TrialClaim
from tametail.search.trainings import FAILED, SelectionMetric, inner_trainings, trial_outputs, trial_score
from tametail.training.checkpointing.checkpointer import Stop, Stopped
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult
from tametail.training.run import TrainingKey, leave_one_fold_out, leave_two_folds_out

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class Runner(Protocol):
    """Trains trials on the given data alone; ``predicted`` are the folds of the held-out rows."""

    def __call__(
        self, trials: Sequence[Trial], data: TrialData, training: TrainingKey, predicted: Sequence[int]
    ) -> list[TrialResult]: ...


@dataclass(frozen=True)
class SearchPlan:
    """The trainings of each trial of a search.

    Attributes:
        stages: groups of trainings in the order in which they run; with halving, trials are pruned between stages.
        scored: the trainings that the score reported to Optuna is computed from.
        outer: the outer fold, which the search does not see; None if there is none.
    """

    stages: tuple[tuple[TrainingKey, ...], ...]
    scored: tuple[TrainingKey, ...]
    outer: int | None = None

    @property
    def trainings(self) -> int:
        """Number of trainings of a trial that is not pruned."""
        return sum(map(len, self.stages))


def shared_plan(folds: Sequence[int], seeds: Sequence[int]) -> SearchPlan:
    """All searches at once: leave out each fold and each pair of folds; Optuna gets the score over all folds."""
    single = tuple(leave_one_fold_out(folds, seeds))
    return SearchPlan(((*single, *leave_two_folds_out(folds, seeds)),), single)


def separate_plan(outer: int | None, folds: Sequence[int], seeds: Sequence[int]) -> SearchPlan:
    """One search alone, inner fold by inner fold.

    Args:
        outer: its outer fold; None for the search over all folds.
        folds: all folds of the study.
        seeds: numbers of the repeats.
    """
    scored = tuple(inner_trainings(outer, folds, seeds))
    left_out = dict.fromkeys(training.left_out for training in scored)
    stages = tuple(tuple(training for training in scored if training.left_out == one) for one in left_out)
    return SearchPlan(stages, scored, outer)


def better_half(values: Mapping[int, float]) -> set[int]:
    """Numbers of the half of trials with higher values, rounded up; ties are resolved in favour of lower numbers."""
    ordered = sorted(values, key=lambda number: (-values[number], number))
    return set(ordered[: (len(ordered) + 1) // 2])


@dataclass(frozen=True)
class Objective:
    """Trains and scores the trials of a search.

    Attributes:
        plan: its trainings.
        folds: the images it may use; an outer fold is not among them.
        runner: trains.
        metric: what is maximised.
        halving: prune the worse half of a batch between stages.
        stop: whether a stop was requested.
        advance: called with the number of trainings just done or skipped.
    """

    plan: SearchPlan
    folds: FoldData
    runner: Runner
    metric: SelectionMetric
    halving: bool
    stop: Stop
    advance: Callable[[int], None]

    def __post_init__(self) -> None:
        if self.plan.outer is not None and self.plan.outer in self.folds.folds:
            raise ValueError(
                f"expected folds without the outer fold {self.plan.outer}, got {self.folds.folds}"
            )

    def __call__(self, queue: Queue, batch: Sequence[TrialClaim]) -> None:
        """Run a batch.

        Raises:
            Stopped: requested; everything that was trained is stored.
        """
        trials = [_RunningTrial(claim, *_build(queue, claim), dict(claim.outputs)) for claim in batch]
        active = [trial for trial in trials if trial.trial]
        remaining = self.plan.trainings
        self.advance((len(trials) - len(active)) * remaining)
        for number, stage in enumerate(self.plan.stages, 1):
            for training in stage:
                if self.stop.requested:
                    raise Stopped
                self._train(training, active, queue.storage)
                self.advance(len(active))
            remaining -= len(stage)
            for trial in active:
                trial.failed = any(FAILED in trial.outputs[training.name] for training in stage)
            if self.halving and number < len(self.plan.stages):
                self._prune(number, [trial for trial in active if not trial.failed], queue)
            left = [trial for trial in active if not (trial.pruned or trial.failed)]
            self.advance((len(active) - len(left)) * remaining)
            active = left
        for trial in trials:
            if not trial.pruned:
                self._report(trial, queue)

    def _train(self, training: TrainingKey, trials: Sequence[_RunningTrial], storage: BaseStorage) -> None:
        waiting = [trial for trial in trials if training.name not in trial.outputs]
        if not waiting:
            return
        start = time.perf_counter()
        left_out = [fold for fold in training.left_out if fold != self.plan.outer]
        data = self.folds.trial_data(left_out)
        results = self.runner([trial.trial for trial in waiting if trial.trial], data, training, left_out)
        seconds = (time.perf_counter() - start) / len(waiting)
        for trial, result in zip(waiting, results, strict=True):
            outputs = trial_outputs(result, training, left_out, self.folds, seconds)
            trial.outputs[training.name] = outputs
            storage.set_trial_user_attr(trial.claim.id, training.name, outputs)

    def _prune(self, stage: int, trials: Sequence[_RunningTrial], queue: Queue) -> None:
        """Store the scores of a batch after a stage, then prune its worse half.

        All scores are stored before the first trial is pruned, and those of pruned trials still count, so that a kill does
        not change which trials continue.
        """
        so_far = [training for group in self.plan.stages[:stage] for training in group]
        with explain_damage(queue.directory):
            for trial in trials:
                value = trial_score(trial.outputs, so_far, self.metric, self.plan.outer)
                queue.storage.set_trial_intermediate_value(trial.claim.id, stage, value)
            for batch in {trial.claim.batch for trial in trials}:
                better = better_half(queue.values_after(stage, batch))
                for trial in trials:
                    if trial.claim.batch == batch and trial.claim.number not in better:
                        trial.pruned = True
                        self._report(trial, queue)

    def _report(self, trial: _RunningTrial, queue: Queue) -> None:
        from optuna.trial import TrialState

        with explain_damage(queue.directory):
            value = trial_score(trial.outputs, self.plan.scored, self.metric, self.plan.outer)
        if trial.pruned:
            state, values = TrialState.PRUNED, None
        elif trial.trial is None or trial.failed or not math.isfinite(value):
            state, values = TrialState.FAIL, None
            if trial.message:
                queue.storage.set_trial_user_attr(trial.claim.id, FAILED, {FAILED: trial.message})
        else:
            state, values = TrialState.COMPLETE, [value]
        queue.storage.set_trial_state_values(trial.claim.id, state, values)


@dataclass
class _RunningTrial:
    """A trial of the current batch."""

    claim: TrialClaim
    trial: Trial | None
    message: str
    outputs: dict[str, Any]
    pruned: bool = False
    failed: bool = False


def _build(queue: Queue, claim: TrialClaim) -> tuple[Trial | None, str]:
    """The trial, or why it cannot be built: a loss may reject a point although it accepts the ends of the space."""
    try:
        trial = queue.space.trial(claim.values)
        trial.method.configure(trial.recipe)
    except (ValueError, TypeError, ValidationError, TametailError) as error:
        return None, str(error)
    return trial, ""
