"""Train the runs of a unit in this process, with checkpoints; a failed run does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tametail.core.run_files import failure, is_ended, is_finished
from tametail.training.checkpointing.checkpointer import RunCheckpointer, Stop, Stopped
from tametail.training.execute import execute, mark_failed
from tametail.training.hardware import broadcast, run_parallel
from tametail.training.heads.execute_heads import execute_heads, stack_identity, stack_place
from tametail.training.history import EpochRecord
from tametail.training.run import Run, RunContext
from tametail.training.trackers import Trackers, open_trackers
from tametail.training.trainer import Callback, RunFailed


@dataclass(frozen=True)
class UnitTrainer:
    """Trains runs of a study. Why one failed is in its folder, see `failures`.

    Attributes:
        context: what all runs share.
        described: the content of study.json.
        track: experiment trackers to log to.
        stop: whether a stop was requested.
        warn: prints a warning.
    """

    context: RunContext
    described: Mapping[str, Any]
    track: Sequence[str]
    stop: Stop
    warn: Callable[[str], None]

    def train_stacks(self, stacks: Sequence[Sequence[Run]], callback: Callback) -> None:
        """Train stacks of heads, each in a thread; finished runs are left as they are.

        Raises:
            Stopped: requested; what was trained is saved.
        """
        tasks = [partial(self._train_stack, stack, callback) for stack in stacks]
        if self.context.accelerator.num_processes > 1:  # all of them do the same in the same order
            for task in tasks:
                task()
        else:
            run_parallel(tasks, self.context.accelerator.device)
        self.context.accelerator.wait_for_everyone()

    def train_run(self, run: Run, callback: Callback) -> None:
        """Train a run, or make it from its base run, unless that has failed.

        Raises:
            Stopped: requested; what was trained is saved.
        """
        context = self.context
        checkpointer = self._checkpointer(run.directory(context.study), run.identity(self.described))
        if run.base != run and not is_finished(run.base.directory(context.study)):
            mark_failed(run, context, RunFailed("the run that it starts from has failed"))
            return
        names = self.track if context.writes and not run.method.after else ()
        settings = {
            "method": run.method.text,
            "seed": run.seed,
            "fold": run.fold,
            **self.described["recipe"],
        }
        trackers = open_trackers(names, context.study, run.title, settings, warn=self.warn)
        try:
            execute(run, context, checkpointer, _Tracked(callback, trackers) if names else callback)
        except RunFailed:
            pass  # its folder says so
        finally:
            trackers.close()

    def failures(self, runs: Sequence[Run]) -> dict[Run, str]:
        """A message for each of the runs that failed."""
        found = {run: failure(run.directory(self.context.study)) for run in runs}
        return {run: f"{run.title}: {why}" for run, why in found.items() if why is not None}

    def _train_stack(self, runs: Sequence[Run], callback: Callback) -> None:
        context, described = self.context, self.described
        checkpointer = self._checkpointer(
            stack_place(runs, context.study, described), stack_identity(runs, described)
        )
        if all(is_ended(run.directory(context.study)) for run in runs):
            return
        try:
            execute_heads(runs, context, checkpointer, callback)
        except RunFailed as error:
            for run in runs:
                if not is_finished(run.directory(context.study)):
                    mark_failed(run, context, error)
        if context.writes:
            checkpointer.remove()

    def _checkpointer(self, place: Path, identity: str) -> RunCheckpointer:
        """The checkpointer of a training; none starts after a stop request."""
        if broadcast(self.stop.requested, self.context.accelerator):
            raise Stopped
        return RunCheckpointer(place, identity, self.stop, self.warn, writes=self.context.writes)


class _Tracked:
    """A callback that also logs to trackers."""

    def __init__(self, callback: Callback, trackers: Trackers) -> None:
        self._callback, self._trackers = callback, trackers
        self._steps = 0

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        self._steps = steps_per_epoch
        self._callback.begin(epochs, steps_per_epoch)

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        self._callback.step(epoch, step, loss, lr, images)
        self._trackers.log({"loss": loss, "lr": lr}, epoch * self._steps + step + 1)

    def epoch(self, record: EpochRecord) -> None:
        self._callback.epoch(record)
        seen = {
            "images_per_second": record.images_per_second,
            "val_balanced_accuracy": record.val_balanced_accuracy,
            "val_few_shot_recall": record.val_few_shot_recall,
        }
        self._trackers.log({name: value for name, value in seen.items() if value is not None}, record.step)
