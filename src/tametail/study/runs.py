"""The runs of a study that are left to do, one after the other: shown, kept, and gone on with when one fails."""

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
from tametail.report import write_report
from tametail.storage import study_file
from tametail.study.inputs import StudyInputs
from tametail.training.checkpointing.checkpointer import RunCheckpointer
from tametail.training.checkpointing.interrupts import Stop, Stopped, stop_on_signals
from tametail.training.display import TrainingDisplay, show_training
from tametail.training.execute import execute, mark_failed
from tametail.training.hardware import Hardware, broadcast, run_parallel
from tametail.training.heads.execute_heads import execute_heads
from tametail.training.heads.head_batches import HeadBatch, can_batch, make_batches
from tametail.training.history import EpochRecord
from tametail.training.predicting import RunContext
from tametail.training.run import Run, all_runs
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
) -> list[str]:
    """Do every run of the study that is not done yet, and write the report of those that are.

    Returns:
        One message for each run that failed.

    Raises:
        Stopped: asked for by Ctrl-C or SIGTERM, with everything saved.
    """
    runs = all_runs(described)
    left = broadcast([run for run in runs if not is_finished(run.directory(directory))], accelerator)
    if accelerator.is_main_process:
        study_file.remove_leftovers(directory)
    if study_file.read_test_set_evaluations(directory) and left:
        console.warn(
            "the test set of this study was opened before these runs: choices made since may lean on it"
        )
    failed: list[str] = []
    try:
        if left:
            training_data = inputs.training_data(accelerator, console)
            context = RunContext(training_data, inputs.recipe, accelerator, directory, hardware)
            console.say(f"{len(runs)} runs ({len(runs) - len(left)} already finished) in {directory}")
            with stop_on_signals(lambda: console.say("Saving ... (once more to quit at once)")) as stop:
                failed = _do(left, context, described, track, stop, console)
    except (Stopped, TametailError):
        with suppress(TametailError):  # what ended the work is what the user should hear
            _report(directory, runs, accelerator)
        raise
    _report(directory, runs, accelerator)
    accelerator.wait_for_everyone()  # a launcher ends all processes as soon as one has failed
    return failed


def _report(directory: Path, runs: Sequence[Run], accelerator: Accelerator) -> None:
    if accelerator.is_main_process and any(is_finished(run.directory(directory)) for run in runs):
        write_report(directory)


@dataclass(frozen=True)
class _Work:
    """What doing the runs of a study needs."""

    context: RunContext
    described: Mapping[str, Any]
    track: Sequence[str]
    stop: Stop
    console: Console
    display: TrainingDisplay

    def checkpointer(self, place: Path, identity: str) -> RunCheckpointer:
        """Where a training is kept; none begins once someone has asked to stop."""
        if broadcast(self.stop.requested, self.context.accelerator):
            raise Stopped
        return RunCheckpointer(place, identity, self.stop, self.console.warn)

    def fail(self, run: Run, error: RunFailed) -> str:
        """Tell of a run that failed."""
        message = f"{run.title}: {error}"
        self.console.warn(message)
        return message


def _do(
    left: Sequence[Run],
    context: RunContext,
    described: Mapping[str, Any],
    track: Sequence[str],
    stop: Stop,
    console: Console,
) -> list[str]:
    epochs = sum(0 if run.method.after else context.recipe.epochs for run in left)
    failed: dict[Run, str] = {}
    with show_training(console, len(left), epochs) as display:
        work = _Work(context, described, track, stop, console, display)
        portions = make_batches(left, context) if can_batch(context, tracked=bool(track)) else []
        if portions:
            failed |= _do_together(portions, work)
        done = {run for portion in portions for run in portion.runs}
        for run in left:
            if run not in done:
                failed |= _do_alone(run, work, base_failed=run.base in failed)
    return list(failed.values())


def _do_together(portions: Sequence[HeadBatch], work: _Work) -> dict[Run, str]:
    """Messages of the runs that failed, of portions that are trained side by side."""
    context, described = work.context, work.described
    watcher = _HeadsWatcher(work.display, portions, context)

    def do(portion: HeadBatch) -> dict[Run, RunFailed]:
        checkpointer = work.checkpointer(portion.place(context.study, described), portion.identity(described))
        try:
            failures = execute_heads(portion, context, checkpointer, watcher)
        except RunFailed as error:
            failures = {run: error for run in portion.runs if not is_finished(run.directory(context.study))}
            for run in failures:
                mark_failed(run, context, error)
        checkpointer.remove()
        return failures

    try:
        found = run_parallel([partial(do, portion) for portion in portions], context.accelerator.device)
    finally:
        work.display.done()
    return {run: work.fail(run, error) for failures in found for run, error in failures.items()}


def _do_alone(run: Run, work: _Work, *, base_failed: bool) -> dict[Run, str]:
    """The message of the run if it failed."""
    context, described = work.context, work.described
    checkpointer = work.checkpointer(run.directory(context.study), run.identity(described))
    names = work.track if context.writes and not run.method.after else ()
    settings = {"method": run.method.text, "seed": run.seed, "fold": run.fold, **described["recipe"]}
    trackers = open_trackers(names, context.study, run.title, settings, warn=work.console.warn)
    watchers = _Watchers(work.display, trackers, run, context)
    try:
        if base_failed:
            error = RunFailed("the run that it starts from failed")
            mark_failed(run, context, error)
            raise error
        execute(run, context, checkpointer, watchers)
    except RunFailed as error:
        return {run: work.fail(run, error)}
    finally:
        trackers.close()
        work.display.done()
    return {}


class _Watchers:
    """The display and the trackers of one run."""

    def __init__(self, display: TrainingDisplay, trackers: Trackers, run: Run, context: RunContext) -> None:
        self._display = display
        self._trackers = trackers
        self._title = run.title
        self._measure = _measure(context)
        self._steps = 0
        display.begin(run.title, 0, 0)

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        self._steps = steps_per_epoch
        self._display.begin(self._title, epochs, steps_per_epoch, measure=self._measure)

    def step(self, epoch: int, step: int, method: float, lr: float, images: int) -> None:
        self._display.step(epoch, step, method, lr, images)
        self._trackers.log({"loss": method, "lr": lr}, epoch * self._steps + step + 1)

    def epoch(self, record: EpochRecord) -> None:
        self._display.epoch(record)
        seen = {
            "images_per_second": record.images_per_second,
            "val_balanced_accuracy": record.val_balanced_accuracy,
            "val_few_shot_recall": record.val_few_shot_recall,
        }
        self._trackers.log({name: value for name, value in seen.items() if value is not None}, record.step)


class _HeadsWatcher:
    """The display of all heads that are trained side by side, as of one training: of the portions' steps it shows the mean."""

    def __init__(self, display: TrainingDisplay, portions: Sequence[HeadBatch], context: RunContext) -> None:
        self._display = display
        self._portions = len(portions)
        self._begun, self._done, self._steps, self._epoch = False, 0, 1, 0
        self._lock = Lock()
        missing = [
            run
            for portion in portions
            for run in portion.runs
            if not is_finished(run.directory(context.study))
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

    def step(self, epoch: int, step: int, method: float, lr: float, images: int) -> None:
        with self._lock:
            self._done += 1
            so_far = self._done // self._portions
            self._display.step(so_far // self._steps, so_far % self._steps, method, lr, images)

    def epoch(self, record: EpochRecord) -> None:
        with self._lock:
            mean = self._done // self._portions // self._steps
            if mean > self._epoch:
                self._epoch = mean
                self._display.epoch(replace(record, epoch=mean, images_per_second=0.0))


def _measure(context: RunContext) -> str:
    """What models are judged by after an epoch."""
    return "mean average precision" if context.training_data.table.multi_label else "balanced accuracy"
