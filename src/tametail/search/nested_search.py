"""All searches of a nested cross-validation, worked through to their end, beside other processes that do the same."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.console import Advance, Console
from tametail.search.folds import Folds
from tametail.search.journal import Worker, lock, open_study, reading
from tametail.search.objective import Objective, Plan, Runner, own_plan, shared_plan
from tametail.search.queue import VALUES, Queue, Sampler
from tametail.search.space import Space
from tametail.search.trainings import images, inner_trainings, score, why_failed
from tametail.training.checkpointing.interrupts import Stop, Stopped

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

_PATIENCE = 0.3  # seconds between two looks at what others are doing
_SHARED = "all"


@dataclass(frozen=True)
class Settings:
    """How is searched.

    Attributes:
        trials: of each search.
        sampler: of values; ``random`` draws the same trials for all searches.
        halving: the worse half of a batch is given up after the first inner fold, and so on.
        metric: one of ``trainings.METRICS``.
        seeds: trainings of each model.
        seed: of the sampler.
        batch: trials that are trained together.
        identity: digest of all that fixes the trials, by which the journal knows that they are this search's.
    """

    trials: int
    sampler: Sampler
    halving: bool
    metric: str
    seeds: int
    seed: int
    batch: int
    identity: str = ""

    @property
    def shared(self) -> bool:
        """Whether all searches try the same trials to the end, so that they can share trainings."""
        return self.sampler == "random" and not self.halving


@dataclass(frozen=True)
class TrialRecord:
    """A trial as a search sees it.

    Attributes:
        outer: the outer fold of the search; None is the search over all folds.
        number: among the search's trials.
        values: of each dimension, as text.
        score: over the inner folds; nan where the trial was given up or failed.
        state: ``complete``, ``given up`` or ``failed``.
        message: why it failed.
        n: images the score is of.
        found: what was kept of its trainings, by their names.
    """

    outer: int | None
    number: int
    values: Mapping[str, str]
    score: float
    state: str
    message: str
    n: int
    found: Mapping[str, Any]


def run_searches(
    directory: Path,
    storage: BaseStorage,
    space: Space,
    folds: Folds,
    settings: Settings,
    runner: Runner,
    worker: Worker,
    stop: Stop,
    console: Console,
) -> None:
    """Do what is left of all searches, and wait for what others are doing.

    Raises:
        Stopped: asked to; what is done is kept.
    """
    seeds = range(settings.seeds)
    if settings.shared:
        plans = {_SHARED: shared_plan(folds.names, seeds)}
    else:
        plans = {_name(outer): own_plan(outer, folds.names, seeds) for outer in (*folds.names, None)}
    total = settings.trials * sum(plan.trainings for plan in plans.values())
    with console.track("Trainings", total) as advance:
        for place, (name, plan) in enumerate(plans.items()):
            with lock(directory), reading(directory):
                study = open_study(storage, name, settings.identity)
                _check_values(study, space)
            # Each search draws trials of its own, where they are not the same on purpose.
            seed = int(np.random.SeedSequence([settings.seed, place]).generate_state(1)[0])
            queue = Queue(
                directory,
                study,
                storage,
                space,
                settings.sampler,
                seed,
                settings.trials,
                settings.batch,
                worker,
            )
            own = folds if plan.outer is None else folds.without(plan.outer)
            objective = Objective(plan, own, runner, settings.metric, settings.halving, stop, advance)
            _work(queue, objective, plan, advance, stop)


def _work(queue: Queue, objective: Objective, plan: Plan, advance: Advance, stop: Stop) -> None:
    seen = 0  # done by others, or before
    mine = 0
    while True:
        others = queue.done() - mine
        if others > seen:
            advance((others - seen) * plan.trainings)
            seen = others
        batch = queue.claim()
        if batch:
            objective(queue, batch)
            mine += len(batch)
        elif queue.finished():
            return
        elif stop.requested:
            raise Stopped
        else:
            time.sleep(_PATIENCE)


def trial_records(storage: BaseStorage, folds: Sequence[int], settings: Settings) -> list[TrialRecord]:
    """Every trial of every search, the search over all folds first; of a search they are in the order of their numbers.

    Args:
        folds: all folds of the study.
    """
    searches: tuple[int | None, ...] = (None, *folds)
    found = []
    for outer in searches:
        study = search_study(storage, outer, settings)
        trainings = inner_trainings(outer, folds, range(settings.seeds))
        for trial in study.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                continue
            attrs = trial.user_attrs
            given_up = trial.state.name == "PRUNED"
            value = float("nan") if given_up else score(attrs, trainings, settings.metric)
            state = "given up" if given_up else "complete" if np.isfinite(value) else "failed"
            why = why_failed(attrs) if state == "failed" else ""
            found.append(
                TrialRecord(
                    outer, trial.number, attrs[VALUES], value, state, why, images(attrs, trainings), attrs
                )
            )
    return found


def search_study(storage: BaseStorage, outer: int | None, settings: Settings) -> Study:
    """Optuna's study that holds the trials of a search."""
    import optuna

    return optuna.load_study(study_name=_SHARED if settings.shared else _name(outer), storage=storage)


def failures(trials: Sequence[TrialRecord]) -> list[str]:
    """Why trials failed, each reason once."""
    return list(dict.fromkeys(trial.message for trial in trials if trial.state == "failed" and trial.message))


def _check_values(study: Study, space: Space) -> None:
    """Have a finished trial without its values be missed before there is work on others."""
    names = {dimension.name for dimension in space.dimensions}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and set(trial.user_attrs[VALUES]) != names:
            raise ValueError(f"trial {trial.number} has not the values of {', '.join(sorted(names))}")


def _name(outer: int | None) -> str:
    return "final" if outer is None else f"outer {outer}"
