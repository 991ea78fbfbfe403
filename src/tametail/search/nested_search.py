"""Runs all searches of a nested cross-validation, possibly together with other processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.console import Advance, Console
from tametail.search.folds import FoldData
from tametail.search.journal import Worker, explain_damage, folder_lock, open_study
from tametail.search.objective import Objective, Runner, SearchPlan, separate_plan, shared_plan
from tametail.search.queue import VALUES, Queue, SearchSettings
from tametail.search.space import Space
from tametail.search.trainings import failure_message, inner_trainings, scored_images, trial_score
from tametail.training.checkpointing.checkpointer import Stop, Stopped

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

_POLL_SECONDS = 0.3  # between two looks at the progress of other processes
_SHARED = "all"


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial of one search.

    Attributes:
        outer: the outer fold of the search; None for the search over all folds.
        number: index among the trials of the search.
        values: of each dimension, as text.
        score: over the inner folds; nan if the trial was pruned or failed.
        state: ``complete``, ``pruned`` or ``failed``.
        message: why it failed.
        n: number of images that the score is computed on.
        outputs: stored outputs of its trainings, by their names.
    """

    outer: int | None
    number: int
    values: Mapping[str, str]
    score: float
    state: str
    message: str
    n: int
    outputs: Mapping[str, Any]


def run_searches(
    directory: Path,
    storage: BaseStorage,
    space: Space,
    folds: FoldData,
    settings: SearchSettings,
    runner: Runner,
    worker: Worker,
    stop: Stop,
    console: Console,
) -> None:
    """Run the remaining trials of all searches, and wait for those of other processes.

    Raises:
        Stopped: requested; everything that was trained is stored.
    """
    seeds = range(settings.seeds)
    plans = {_SHARED: shared_plan(folds.folds, seeds)}
    if not settings.shared:
        plans = {
            _study_name(outer): separate_plan(outer, folds.folds, seeds) for outer in (*folds.folds, None)
        }
    total = settings.trials * sum(plan.trainings for plan in plans.values())
    with console.track("Trainings", total) as advance:
        for place, (name, plan) in enumerate(plans.items()):
            with folder_lock(directory), explain_damage(directory):
                study = open_study(storage, name, settings.identity)
                _check_values(study, space)
            # Separate searches sample different trials.
            seed = int(np.random.SeedSequence([settings.seed, place]).generate_state(1)[0])
            queue = Queue(directory, study, storage, space, settings, seed, worker)
            visible = folds if plan.outer is None else folds.without(plan.outer)
            objective = Objective(plan, visible, runner, settings.selection, settings.halving, stop, advance)
            _work_off(queue, objective, plan, advance, stop)


def _work_off(queue: Queue, objective: Objective, plan: SearchPlan, advance: Advance, stop: Stop) -> None:
    own, others = 0, 0  # trials done by this process, and by others or earlier
    while True:
        done = queue.done() - own
        if done > others:
            advance((done - others) * plan.trainings)
            others = done
        batch = queue.claim()
        if batch:
            objective(queue, batch)
            own += len(batch)
        elif queue.finished():
            return
        elif stop.requested:
            raise Stopped
        else:
            time.sleep(_POLL_SECONDS)


def trial_records(storage: BaseStorage, folds: Sequence[int], settings: SearchSettings) -> list[TrialRecord]:
    """The finished trials of every search of a study's folds by number, the search over all folds first."""
    records = []
    for outer in (None, *folds):
        study = search_study(storage, outer, settings)
        trainings = inner_trainings(outer, folds, range(settings.seeds))
        for trial in study.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                continue
            outputs, pruned = trial.user_attrs, trial.state.name == "PRUNED"
            score = float("nan") if pruned else trial_score(outputs, trainings, settings.selection, outer)
            state = "pruned" if pruned else "complete" if np.isfinite(score) else "failed"
            message = failure_message(outputs) if state == "failed" else ""
            n, values = scored_images(outputs, trainings, outer), outputs[VALUES]
            records.append(TrialRecord(outer, trial.number, values, score, state, message, n, outputs))
    return records


def trials_left(storage: BaseStorage, folds: Sequence[int], settings: SearchSettings) -> int:
    """Number of trials of all searches that are not finished."""
    import optuna

    names = {_SHARED} if settings.shared else {_study_name(outer) for outer in (*folds, None)}
    begun = names & set(optuna.get_all_study_names(storage))
    trials = [
        trial
        for name in begun
        for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    ]
    return settings.trials * len(names) - sum(trial.state.is_finished() for trial in trials)


def search_study(storage: BaseStorage, outer: int | None, settings: SearchSettings) -> Study:
    """The Optuna study that holds the trials of a search."""
    import optuna

    name = _SHARED if settings.shared else _study_name(outer)
    return optuna.load_study(study_name=name, storage=storage)


def failures(trials: Sequence[TrialRecord]) -> list[str]:
    """The distinct reasons for which trials failed."""
    return list(dict.fromkeys(trial.message for trial in trials if trial.state == "failed" and trial.message))


def _check_values(study: Study, space: Space) -> None:
    """Detect finished trials without values before any work on further ones."""
    names = {dimension.name for dimension in space.dimensions}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and set(trial.user_attrs[VALUES]) != names:
            raise ValueError(f"trial {trial.number} lacks values of {', '.join(sorted(names))}")


def _study_name(outer: int | None) -> str:
    return "final" if outer is None else f"outer {outer}"
