"""Doing a batch of trials: each training for all of them at once, each result kept at once, and the score told.

Two ways through the folds. Where all searches try the same trials, a training without two folds serves both as outer and
inner, and all searches are one. Otherwise each outer fold has a search of its own, that is given the other folds alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from tametail.core.errors import TametailError
from tametail.search.folds import Folds
from tametail.search.journal import reading
from tametail.search.queue import Queue, TrialClaim
from tametail.search.trainings import (
    FAILED,
    TrainingKey,
    inner_trainings,
    score,
    trainings_without_one,
    trainings_without_two,
    trial_outputs,
)
from tametail.training.checkpointing.interrupts import Stop, Stopped
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class Runner(Protocol):
    """What trains trials, and is shown nothing but the data it is given."""

    def __call__(
        self, trials: Sequence[Trial], data: TrialData, training: TrainingKey
    ) -> list[TrialResult]: ...


@dataclass(frozen=True)
class Plan:
    """The trainings of a search.

    Attributes:
        rungs: groups of trainings, one after the other; after each the worse trials may be given up.
        told: those that the score told to Optuna is of.
        outer: the outer fold, that is not among the folds of the search; None where there is none.
    """

    rungs: tuple[tuple[TrainingKey, ...], ...]
    told: tuple[TrainingKey, ...]
    outer: int | None = None

    @property
    def trainings(self) -> int:
        """How many there are for a trial that is not given up."""
        return sum(map(len, self.rungs))


def shared_plan(folds: Sequence[int], seeds: Sequence[int]) -> Plan:
    """All searches at once: each fold left out, and each two; Optuna is told the score over all folds."""
    single = tuple(trainings_without_one(folds, seeds))
    return Plan(((*single, *trainings_without_two(folds, seeds)),), single)


def own_plan(outer: int | None, folds: Sequence[int], seeds: Sequence[int]) -> Plan:
    """One search by itself, inner fold by inner fold.

    Args:
        folds: all folds of the study.
    """
    told = tuple(inner_trainings(outer, folds, seeds))
    read = dict.fromkeys(training.read for training in told)
    rungs = tuple(tuple(training for training in told if training.read == one) for one in read)
    return Plan(rungs, told, outer)


def better_half(values: Mapping[int, float]) -> set[int]:
    """Numbers of the better half of trials, of an odd number the larger one; of equal trials the first are the better.

    Args:
        values: by trial number; the higher the better.
    """
    ordered = sorted(values, key=lambda number: (-values[number], number))
    return set(ordered[: (len(ordered) + 1) // 2])


@dataclass(frozen=True)
class Objective:
    """What is done with the trials of a search.

    Attributes:
        plan: its trainings.
        folds: the rows it may use. Of a search with an outer fold, that fold is not in them.
        runner: trains.
        metric: one of ``trainings.METRICS``.
        halving: whether the worse half of a batch is given up between rungs.
        stop: whether someone asked to stop.
        advance: is told how many trainings are done or given up.
    """

    plan: Plan
    folds: Folds
    runner: Runner
    metric: str
    halving: bool
    stop: Stop
    advance: Callable[[int], None]

    def __post_init__(self) -> None:
        if self.plan.outer is not None and self.plan.outer in self.folds.names:
            raise ValueError(
                f"expected folds without the outer fold {self.plan.outer}, got {self.folds.names}"
            )

    def __call__(self, queue: Queue, batch: Sequence[TrialClaim]) -> None:
        """Do a batch.

        Raises:
            Stopped: asked to; what is done is kept.
        """
        doing = [_Doing(claimed, *_built(queue, claimed), dict(claimed.known)) for claimed in batch]
        for place, rung in enumerate(self.plan.rungs):
            for training in rung:
                if self.stop.requested:
                    raise Stopped
                self._train(training, [one for one in doing if one.goes_on], queue.storage)
                self.advance(sum(one.goes_on for one in doing))
            for one in doing:
                one.failed = one.failed or any(_failed(one.found, training) for training in rung)
            if self.halving and place + 1 < len(self.plan.rungs):
                self._give_up(place + 1, [one for one in doing if one.goes_on], queue)
            self._skip(doing, len(self.plan.rungs) - place - 1)
        for one in doing:
            if not one.pruned:
                self._tell(one, queue)

    def _train(self, training: TrainingKey, doing: Sequence[_Doing], storage: BaseStorage) -> None:
        left = [one for one in doing if training.name not in one.found]
        if not left:
            return
        began = time.perf_counter()
        out = [fold for fold in training.out if fold != self.plan.outer]
        data = self.folds.trial_data(out, training.read)
        results = self.runner([one.trial for one in left if one.trial], data, training)
        seconds = (time.perf_counter() - began) / len(left)
        for one, result in zip(left, results, strict=True):
            one.found[training.name] = trial_outputs(result, training, self.folds, seconds)
            storage.set_trial_user_attr(one.claimed.id, training.name, one.found[training.name])

    def _give_up(self, rung: int, doing: Sequence[_Doing], queue: Queue) -> None:
        """Keep how good the trials of a batch are after so many rungs, and then give up the worse half of them, at once.

        The values of all are kept before the first is given up, and those of a trial that was given up still count: who goes on
        is the same after a kill.
        """
        so_far = [training for group in self.plan.rungs[:rung] for training in group]
        with reading(queue.directory):
            for one in doing:
                value = score(one.found, so_far, self.metric)
                queue.storage.set_trial_intermediate_value(one.claimed.id, rung, value)
            for batch in {one.claimed.batch for one in doing}:
                better = better_half(queue.values_after(rung, batch))
                for one in doing:
                    if one.claimed.batch == batch and one.claimed.number not in better:
                        one.pruned = True
                        self._tell(one, queue)

    def _skip(self, doing: Sequence[_Doing], rungs_left: int) -> None:
        """Count the trainings that are not to be."""
        left = sum(map(len, self.plan.rungs[len(self.plan.rungs) - rungs_left :])) if rungs_left else 0
        for one in doing:
            if not one.goes_on and not one.counted:
                one.counted = True
                self.advance(left)

    def _tell(self, one: _Doing, queue: Queue) -> None:
        from optuna.trial import TrialState

        with reading(queue.directory):
            value = score(one.found, self.plan.told, self.metric)
        if one.pruned:
            state, values = TrialState.PRUNED, None
        elif one.failed or not math.isfinite(value):
            state, values = TrialState.FAIL, None
            if one.message:
                queue.storage.set_trial_user_attr(one.claimed.id, FAILED, {FAILED: one.message})
        else:
            state, values = TrialState.COMPLETE, [value]
        queue.storage.set_trial_state_values(one.claimed.id, state, values)


@dataclass
class _Doing:
    """A trial at hand."""

    claimed: TrialClaim
    trial: Trial | None
    message: str
    found: dict[str, Any] = field(default_factory=dict)
    pruned: bool = False
    failed: bool = False
    counted: bool = False

    def __post_init__(self) -> None:
        self.failed = self.trial is None

    @property
    def goes_on(self) -> bool:
        return not (self.pruned or self.failed)


def _built(queue: Queue, claimed: TrialClaim) -> tuple[Trial | None, str]:
    """The trial, or why there can be none: corners of a space may be buildable, and some place between them not."""
    try:
        trial = queue.space.trial(claimed.values)
        trial.method.configure(trial.recipe)
    except (ValueError, TypeError, ValidationError, TametailError) as error:
        return None, str(error)
    return trial, ""


def _failed(found: Mapping[str, Any], training: TrainingKey) -> bool:
    return FAILED in found.get(training.name, {})
