"""The runs of a study that are left to do, one after the other: shown, kept, and gone on with when one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail import study_file
from tametail.console import Console, TrainingDisplay
from tametail.errors import TametailError
from tametail.preparation import Prepared
from tametail.report import write_report
from tametail.run_files import is_finished
from tametail.training.execute import execute, mark_failed
from tametail.training.hardware import Hardware, agreed
from tametail.training.interrupts import Stop, Stopped, stopping
from tametail.training.keeping import RunKeeper
from tametail.training.predicting import Workshop
from tametail.training.run import Run, all_runs
from tametail.training.trackers import Trackers, open_trackers
from tametail.training.trainer import RunFailed
from tametail.training.watch import EpochRecord

if TYPE_CHECKING:
    from accelerate import Accelerator


def run_all(
    directory: Path,
    described: Mapping[str, Any],
    prepared: Prepared,
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
    left = agreed([run for run in runs if not is_finished(run.directory(directory))], accelerator)
    if accelerator.is_main_process:
        study_file.sweep(directory)
    if study_file.read_openings(directory) and left:
        console.warn(
            "the test part of this study was opened before these runs: choices made since may lean on it"
        )
    failed: list[str] = []
    try:
        if left:
            material = prepared.material(accelerator, console)
            workshop = Workshop(material, prepared.recipe, accelerator, directory, hardware)
            console.say(f"{len(runs)} runs ({len(runs) - len(left)} already finished) in {directory}")
            with stopping(lambda: console.say("Saving ... (once more to quit at once)")) as stop:
                failed = _do(left, workshop, described, track, stop, console)
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


def _do(
    left: Sequence[Run],
    workshop: Workshop,
    described: Mapping[str, Any],
    track: Sequence[str],
    stop: Stop,
    console: Console,
) -> list[str]:
    failed: dict[Run, str] = {}
    epochs = {run: 0 if run.method.after else workshop.recipe.epochs for run in left}
    with console.training(len(left), sum(epochs.values())) as display:
        for run in left:
            if agreed(stop.requested, workshop.accelerator):
                raise Stopped
            keeper = RunKeeper(run.directory(workshop.study), run.identity(described), stop, console.warn)
            names = track if workshop.writes and epochs[run] else ()
            settings = {"method": run.method.text, "seed": run.seed, "fold": run.fold, **described["recipe"]}
            trackers = open_trackers(names, workshop.study, run.title, settings, warn=console.warn)
            watchers = _Watchers(display, trackers, run, workshop)
            try:
                if run.base in failed:
                    error = RunFailed("the run that it starts from failed")
                    mark_failed(run, workshop, error)
                    raise error
                execute(run, workshop, keeper, watchers)
            except RunFailed as error:
                failed[run] = f"{run.title}: {error}"
                console.warn(failed[run])
            finally:
                trackers.close()
                display.done()
    return list(failed.values())


class _Watchers:
    """The display and the trackers of one run."""

    def __init__(self, display: TrainingDisplay, trackers: Trackers, run: Run, workshop: Workshop) -> None:
        self._display = display
        self._trackers = trackers
        self._title = run.title
        self._measure = (
            "mean average precision" if workshop.material.table.multi_label else "balanced accuracy"
        )
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
            "val_tail_recall": record.val_tail_recall,
        }
        self._trackers.log({name: value for name, value in seen.items() if value is not None}, record.step)
