"""The runs of a study that are left to do, one after the other: shown, kept, and gone on with when one fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail import study_file
from tametail.console import Console, TrainingDisplay
from tametail.preparation import Prepared
from tametail.report import write_report
from tametail.training.execute import Workshop, execute, steps_per_epoch
from tametail.training.hardware import Hardware, agreed
from tametail.training.interrupts import Stop, Stopped, stopping
from tametail.training.keeping import RunKeeper
from tametail.training.run import Run, all_runs, is_finished
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
    try:
        if not left:
            return []
        material = prepared.material(accelerator, console)
        workshop = Workshop(material, prepared.recipe, accelerator, directory, hardware)
        console.say(f"{len(runs)} runs ({len(runs) - len(left)} already finished) in {directory}")
        with stopping(lambda: console.say("Saving ... (once more to quit at once)")) as stop:
            return _do(left, workshop, described, track, stop, console)
    finally:
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
    measure = "mean average precision" if workshop.material.table.multi_label else "balanced accuracy"
    with console.training(len(left), sum(epochs.values())) as display:
        for run in left:
            if agreed(stop.requested, workshop.accelerator):
                raise Stopped
            if run.base in failed:
                failed[run] = f"{run.title}: the run it starts from failed"
                continue
            keeper = RunKeeper(run.directory(workshop.study), run.identity(described), stop, console.warn)
            names = track if workshop.writes and epochs[run] else ()
            settings = {"method": run.method.text, "seed": run.seed, "fold": run.fold, **described["recipe"]}
            trackers = open_trackers(names, workshop.study, run.title, settings, warn=console.warn)
            steps = steps_per_epoch(run, workshop)
            display.begin(run.title, epochs[run], steps, measure=measure)
            try:
                execute(run, workshop, keeper, _Watchers(display, trackers, steps))
            except RunFailed as error:
                failed[run] = f"{run.title}: {error}"
                console.warn(failed[run])
            finally:
                trackers.close()
                display.done()
    return list(failed.values())


class _Watchers:
    """The display and the trackers of one run."""

    def __init__(self, display: TrainingDisplay, trackers: Trackers, steps_per_epoch: int) -> None:
        self._display = display
        self._trackers = trackers
        self._steps_per_epoch = steps_per_epoch

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        self._display.step(epoch, step, loss, lr, images)
        self._trackers.log({"loss": loss, "lr": lr}, epoch * self._steps_per_epoch + step + 1)

    def epoch(self, record: EpochRecord) -> None:
        self._display.epoch(record)
        seen = {
            "images_per_second": record.images_per_second,
            "val_balanced_accuracy": record.val_balanced_accuracy,
            "val_tail_recall": record.val_tail_recall,
        }
        self._trackers.log({name: value for name, value in seen.items() if value is not None}, record.step)
