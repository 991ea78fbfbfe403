"""Train the unfinished runs of a study, with progress and checkpoints; a failed run does not stop the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tametail.core.console import Console
from tametail.core.errors import TametailError
from tametail.core.run_files import is_finished
from tametail.core.trust import Trust
from tametail.report import unavailable, unconverged, write_report
from tametail.storage import study_file
from tametail.study.inputs import StudyInputs
from tametail.training.checkpointing.checkpointer import RunCheckpointer, Stop, Stopped, stop_on_signals
from tametail.training.display import TrainingDisplay, show_training
from tametail.training.execute import execute, mark_failed
from tametail.training.hardware import Hardware, broadcast, run_parallel
from tametail.training.heads.execute_heads import HeadBatch, execute_heads, make_batches, to_minimum
from tametail.training.history import EpochRecord
from tametail.training.run import Run, RunContext, all_runs, finished_runs
from tametail.training.trackers import Trackers, open_trackers
from tametail.training.trainer import RunFailed

if TYPE_CHECKING:
    from accelerate import Accelerator


def run_all(
    directory: Path,
    described: Mapping[str, Any],
    inputs: StudyInputs,
    accelerator: Accelerator,
    hardware: Hardware,
    track: Sequence[str],
    console: Console,
    trust: Trust,
) -> list[str]:
    """Train every unfinished run of a study, and write the report.

    Args:
        trust: whether code that the study's files name may be run.

    Returns:
        One message for each run that failed.

    Raises:
        Stopped: interrupted by Ctrl-C or SIGTERM, with everything saved.
    """
    runs = runs_to_train(directory, described, trust)
    left = broadcast([run for run in runs if not is_finished(run.directory(directory))], accelerator)
    if accelerator.is_main_process:
        study_file.remove_leftovers(directory)
    if study_file.read_test_set_evaluations(directory) and left:
        console.warn(
            "the test set was evaluated before these runs: choices made since may depend on its results"
        )
    failed: list[str] = []
    try:
        if left:
            training_data = inputs.training_data(accelerator, console)
            context = RunContext(training_data, inputs.recipe, accelerator, directory, hardware, trust)
            console.say(f"{len(runs)} runs ({len(runs) - len(left)} already finished) in {directory}")
            with stop_on_signals(lambda: console.say("Saving ... (once more to quit at once)")) as stop:
                failed = _train(left, context, described, track, stop, console)
    except (Stopped, TametailError):
        with suppress(TametailError):  # the first error is the one to show
            _report(directory, runs, accelerator)
        raise
    _report(directory, runs, accelerator)
    for line in [*unavailable(), *unconverged(directory)]:
        console.warn(line)
    accelerator.wait_for_everyone()  # a launcher ends all processes as soon as one has failed
    return failed


def runs_to_train(directory: Path, described: Mapping[str, Any], trust: Trust) -> list[Run]:
    """All runs of a study, except for those of finished methods with code that is not trusted.

    Raises:
        UsageError: an unfinished method names code that is not trusted.
        DataError: a method is unknown here.
    """
    wanted = [
        text
        for text in described["methods"]
        if trust.allows(text) or not all(finished_runs(directory, described, text))
    ]
    return all_runs(directory, described, trust, wanted)


def _report(directory: Path, runs: Sequence[Run], accelerator: Accelerator) -> None:
    if accelerator.is_main_process and any(is_finished(run.directory(directory)) for run in runs):
        write_report(directory)


@dataclass(frozen=True)
class _Session:
    """Shared state of a study's runs."""

    context: RunContext
    described: Mapping[str, Any]
    track: Sequence[str]
    stop: Stop
    console: Console
    display: TrainingDisplay

    def checkpointer(self, place: Path, identity: str) -> RunCheckpointer:
        """The checkpointer of a training; none starts after a stop request."""
        if broadcast(self.stop.requested, self.context.accelerator):
            raise Stopped
        return RunCheckpointer(place, identity, self.stop, self.console.warn)

    def fail(self, run: Run, error: RunFailed) -> str:
        """Warn about a failed run, and return the message."""
        message = f"{run.title}: {error}"
        self.console.warn(message)
        return message


def _train(
    left: Sequence[Run],
    context: RunContext,
    described: Mapping[str, Any],
    track: Sequence[str],
    stop: Stop,
    console: Console,
) -> list[str]:
    minimised = {run for run in left if to_minimum(run, context)}
    epochs = sum(0 if run.method.after else 1 if run in minimised else context.recipe.epochs for run in left)
    failed: dict[Run, str] = {}
    with show_training(console, len(left), epochs) as display:
        session = _Session(context, described, track, stop, console, display)
        batches = make_batches(left, context, tracked=bool(track))
        for at_minimum in (True, False):
            together = [batch for batch in batches if (batch.runs[0] in minimised) is at_minimum]
            if together:
                failed |= _train_heads(together, session)
        done = {run for batch in batches for run in batch.runs}
        for run in left:
            if run not in done:
                failed |= _train_run(run, session, base_failed=run.base in failed)
    return list(failed.values())


def _train_heads(batches: Sequence[HeadBatch], session: _Session) -> dict[Run, str]:
    """Train batches of heads in parallel, and return the messages of failed runs."""
    context, described = session.context, session.described
    callback = _HeadsCallback(session.display, batches, context)

    def do(batch: HeadBatch) -> dict[Run, RunFailed]:
        checkpointer = session.checkpointer(batch.place(context.study, described), batch.identity(described))
        try:
            failures = execute_heads(batch, context, checkpointer, callback)
        except RunFailed as error:
            failures = {run: error for run in batch.runs if not is_finished(run.directory(context.study))}
            for run in failures:
                mark_failed(run, context, error)
        checkpointer.remove()
        return failures

    try:
        tasks = [partial(do, batch) for batch in batches]
        if context.accelerator.num_processes > 1:  # all of them do the same in the same order
            found = [task() for task in tasks]
        else:
            found = run_parallel(tasks, context.accelerator.device)
    finally:
        session.display.done()
    context.accelerator.wait_for_everyone()
    return {run: session.fail(run, error) for failures in found for run, error in failures.items()}


def _train_run(run: Run, session: _Session, *, base_failed: bool) -> dict[Run, str]:
    """Train one run, and return its message if it failed."""
    context, described = session.context, session.described
    checkpointer = session.checkpointer(run.directory(context.study), run.identity(described))
    names = session.track if context.writes and not run.method.after else ()
    settings = {"method": run.method.text, "seed": run.seed, "fold": run.fold, **described["recipe"]}
    trackers = open_trackers(names, context.study, run.title, settings, warn=session.console.warn)
    callback = _RunCallback(session.display, trackers, run, context)
    try:
        if base_failed:
            error = RunFailed("the run that it starts from has failed")
            mark_failed(run, context, error)
            raise error
        execute(run, context, checkpointer, callback)
    except RunFailed as error:
        return {run: session.fail(run, error)}
    finally:
        trackers.close()
        session.display.done()
    return {}


class _RunCallback:
    """The display and the trackers of one run."""

    def __init__(self, display: TrainingDisplay, trackers: Trackers, run: Run, context: RunContext) -> None:
        self._display, self._trackers, self._title = display, trackers, run.title
        self._measure = _measure(context)
        self._steps = 0
        display.begin(run.title, 0, 0)

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        self._steps = steps_per_epoch
        self._display.begin(self._title, epochs, steps_per_epoch, measure=self._measure)

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        self._display.step(epoch, step, loss, lr, images)
        self._trackers.log({"loss": loss, "lr": lr}, epoch * self._steps + step + 1)

    def epoch(self, record: EpochRecord) -> None:
        self._display.epoch(record)
        seen = {
            "images_per_second": record.images_per_second,
            "val_balanced_accuracy": record.val_balanced_accuracy,
            "val_few_shot_recall": record.val_few_shot_recall,
        }
        self._trackers.log({name: value for name, value in seen.items() if value is not None}, record.step)


class _HeadsCallback:
    """The display of heads that are trained in parallel, as one training with the mean progress of the batches."""

    def __init__(self, display: TrainingDisplay, batches: Sequence[HeadBatch], context: RunContext) -> None:
        self._display, self._batches = display, len(batches)
        self._begun, self._done, self._steps, self._epoch = False, 0, 1, 0
        self._lock = Lock()
        missing = [
            run for batch in batches for run in batch.runs if not is_finished(run.directory(context.study))
        ]
        self._runs = len(missing)
        folds = len({run.fold for run in missing})
        self._title = f"{len(missing)} heads, {folds} {'fold' if folds == 1 else 'folds'}"
        self._measure = _measure(context)
        display.begin(self._title, 0, 0, runs=self._runs)

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        with self._lock:
            if not self._begun:
                self._begun, self._steps = True, steps_per_epoch
                self._display.begin(
                    self._title, epochs, steps_per_epoch, measure=self._measure, runs=self._runs
                )

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        with self._lock:
            self._done += 1
            so_far = self._done // self._batches
            self._display.step(so_far // self._steps, so_far % self._steps, loss, lr, images)

    def epoch(self, record: EpochRecord) -> None:
        with self._lock:
            mean = self._done // self._batches // self._steps
            if mean > self._epoch:
                self._epoch = mean
                self._display.epoch(replace(record, epoch=mean, images_per_second=0.0))


def _measure(context: RunContext) -> str:
    """The validation metric after an epoch."""
    return "mean average precision" if context.training_data.table.multi_label else "balanced accuracy"
