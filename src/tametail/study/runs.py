"""Train the unfinished runs of a study, by units that are planned once, here or by an engine; then write the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tametail.core.console import Console
from tametail.core.errors import TametailError
from tametail.core.interruption import Interrupted
from tametail.core.removal import remove
from tametail.core.run_files import UNLIKENESS, failure, is_ended, is_finished, is_run_file
from tametail.core.trust import Trust, code_name
from tametail.engines.choose import HERE, PLAN, EngineChoice
from tametail.engines.engine import Engine, run_units
from tametail.report import unavailable, unconverged, write_report
from tametail.storage import study_file
from tametail.storage.identity import digest_of_identity
from tametail.study.inputs import StudyInputs
from tametail.study.progress import ProgressReader
from tametail.study.shared_work import blocks_in
from tametail.study.train_units import UnitTrainer
from tametail.study.units import Unit, plan, read_units, save_units
from tametail.study.worker import WorkerSettings, describe_work
from tametail.training.checkpointing.checkpointer import Stop, Stopped, stop_on_signals
from tametail.training.display import TrainingDisplay, show_training
from tametail.training.hardware import Hardware, broadcast
from tametail.training.heads.execute_heads import to_minimum
from tametail.training.history import EpochRecord
from tametail.training.run import Run, RunContext, all_runs, finished_runs, places, run_directory
from tametail.training.unlikeness_file import save_study_unlikeness

if TYPE_CHECKING:
    from accelerate import Accelerator

    from tametail.training.training_data import TrainingData


def run_all(
    directory: Path,
    described: Mapping[str, Any],
    inputs: StudyInputs,
    accelerator: Accelerator,
    hardware: Hardware,
    track: Sequence[str],
    console: Console,
    trust: Trust,
    choice: EngineChoice = HERE,
) -> list[str]:
    """Train every unfinished run of a study, and write the report.

    Args:
        trust: whether code that the study's files name may be run.
        choice: where units are trained.

    Returns:
        One message for each run that failed.

    Raises:
        Stopped: interrupted by Ctrl-C or SIGTERM, with everything saved.
    """
    runs = runs_to_train(directory, described, trust)
    left = broadcast([run for run in runs if not is_finished(run.directory(directory))], accelerator)
    if accelerator.is_main_process:
        study_file.remove_leftovers(directory)
        _forget_failures(left, directory)
    if study_file.read_test_set_evaluations(directory) and left:
        console.warn(
            "the test set was evaluated before these runs: choices made since may depend on its results"
        )
    failed: list[str] = []
    try:
        if left:
            alone = bool(track) or hardware.compile or hardware.micro_batch is not None
            units = broadcast(planned(directory, left, inputs, accelerator, alone=alone), accelerator)
            console.say(f"{len(runs)} runs ({len(runs) - len(left)} already finished) in {directory}")
            if choice.here:  # features before: a signal ends them at once
                training_data = inputs.training_data(accelerator, console, described["threads"])
                _save_unlikeness(directory, described, inputs, training_data, accelerator)
                context = RunContext(training_data, inputs.recipe, accelerator, directory, hardware, trust)
            with stop_on_signals(lambda: console.say("Saving ... (once more to quit at once)")) as stop:
                if choice.here:
                    trainer = UnitTrainer(context, described, track, stop, console.warn)
                    failed = _train_here(units, left, trainer, console)
                else:
                    settings = worker_settings(units, directory, described, hardware, trust, choice)
                    settings = replace(settings, track=tuple(track))
                    if choice.name == PLAN:
                        say_plan(units, directory, settings, console)
                        return []
                    gpu = accelerator.device.type == "cuda"
                    work = describe_work(directory, settings, described["threads"], gpu=gpu)
                    failed = _train_by(choice.make(work), units, left, directory, stop, console)
        elif (
            inputs.recipe.trains == "head" and not (directory / UNLIKENESS).exists()
        ):  # of an earlier version
            training_data = inputs.training_data(accelerator, console, described["threads"])
            _save_unlikeness(directory, described, inputs, training_data, accelerator)
    except (Interrupted, TametailError) as error:
        with suppress(TametailError):  # the first error is the one to show
            _report(directory, runs, accelerator)
        if isinstance(error, Stopped):  # in all processes
            accelerator.wait_for_everyone()
        raise
    _report(directory, runs, accelerator)
    if accelerator.is_main_process:
        remove_work(directory, described)
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


def _save_unlikeness(
    directory: Path,
    described: Mapping[str, Any],
    inputs: StudyInputs,
    data: TrainingData,
    accelerator: Accelerator,
) -> None:
    """Save by what foreign images are recognised on frozen features; fine-tuned runs save it themselves."""
    if inputs.recipe.trains == "head" and accelerator.is_main_process:
        save_study_unlikeness(directory, digest_of_identity(described), data, inputs.spec.blocks)


def _forget_failures(left: Sequence[Run], directory: Path) -> None:
    """Remove what runs that failed earlier have left: they are tried again, and count as failed only if they fail now."""
    for run in left:
        if failure(run.directory(directory)) is not None:
            remove(run.directory(directory), is_run_file)


def planned(
    directory: Path, left: Sequence[Run], inputs: StudyInputs, accelerator: Accelerator, *, alone: bool
) -> list[Unit]:
    """The units of some runs, from the plan of the study, which is extended by what it lacks."""
    present = read_units(directory)
    units = plan(
        left, present, inputs.recipe, len(inputs.table.class_names), inputs.spec.features, alone=alone
    )
    if accelerator.is_main_process and len(units) > len(present):
        save_units(directory, units)
    wanted = {(run.seed, run.fold, run.method.text) for run in left}
    return [unit for unit in units if any((unit.seed, unit.fold, text) in wanted for text in unit.texts)]


def _report(directory: Path, runs: Sequence[Run], accelerator: Accelerator) -> None:
    if accelerator.is_main_process and any(is_finished(run.directory(directory)) for run in runs):
        write_report(directory)


def _train_here(
    units: Sequence[Unit], left: Sequence[Run], trainer: UnitTrainer, console: Console
) -> list[str]:
    """Train units in this process: stacks of heads in threads, then everything else one by one."""
    context = trainer.context
    data, recipe = context.training_data, context.recipe
    classes, width = len(data.table.class_names), data.store.shape[1]
    minimised = {run for run in left if to_minimum(run, recipe, classes, width)}
    epochs = sum(0 if run.method.after else 1 if run in minimised else recipe.epochs for run in left)
    failed: dict[Run, str] = {}

    def warn_of(runs: Sequence[Run]) -> None:
        for run, message in trainer.failures(runs).items():
            failed[run] = message
            console.warn(message)

    with show_training(console, len(left), epochs) as display:
        stacks, single = [], []
        for unit in units:
            trained, after = unit.runs(context.study, trainer.described, context.trust)
            stacks += [trained] if unit.stacked else []
            single += after if unit.stacked else [*trained, *after]
        for at_minimum in (True, False):
            together = [
                stack
                for stack in stacks
                if (stack[0] in minimised) is at_minimum and any(run in left for run in stack)
            ]
            if together:
                missing = [run for stack in together for run in stack if run in left]
                callback = _StacksCallback(display, len(together), missing, _measure(context))
                try:
                    trainer.train_stacks(together, callback)
                finally:
                    display.done()
                warn_of(missing)
        for run in [run for run in left if run in set(single)]:
            callback_of_run = RunCallback(display, run.title, _measure(context))
            try:
                trainer.train_run(run, callback_of_run)
            finally:
                display.done()
            warn_of([run])
    return list(failed.values())


def _train_by(
    engine: Engine,
    units: Sequence[Unit],
    left: Sequence[Run],
    directory: Path,
    stop: Stop,
    console: Console,
) -> list[str]:
    """Train units by an engine."""
    by_number = {unit.number: unit for unit in units}
    runs = {(run.seed, run.fold, run.method.text): run for run in left}
    of_unit = {
        unit.number: [runs[key] for text in unit.texts if (key := (unit.seed, unit.fold, text)) in runs]
        for unit in units
    }
    console.say(f"{len(units)} units of work, by {engine.description}")
    reader = ProgressReader(directory)
    failed: dict[Run, str] = {}
    with show_training(console, len(left), len(left)) as display:

        def done(number: int) -> None:
            own = of_unit[number]
            display.begin(_title(by_number[number], own), 1, 1, runs=len(own))
            display.done()
            for run in own:
                why = failure(run.directory(directory))
                if why is not None:
                    failed[run] = f"{run.title}: {why}"
                    console.warn(failed[run])

        def listen() -> None:
            for _, entry in reader.new_entries():
                if isinstance(warning := entry.get("warning"), str):
                    console.warn(warning)

        try:
            lost = run_units(
                engine,
                list(by_number),
                is_done=lambda number: by_number[number].is_ended(directory),
                on_done=done,
                on_wait=listen,
                saved=lambda number: _saved(by_number[number], directory),
                warn=console.warn,
                stop_requested=lambda: stop.requested,
            )
        except Interrupted as error:
            raise Stopped from error
    for number, why in lost.items():
        for run in of_unit[number]:
            failed[run] = f"{run.title}: {why}"
            console.warn(failed[run])
    return list(failed.values())


def worker_settings(
    units: Sequence[Unit],
    directory: Path,
    described: Mapping[str, Any],
    hardware: Hardware,
    trust: Trust,
    choice: EngineChoice,
) -> WorkerSettings:
    """How workers do units of a study.

    Raises:
        UsageError: a method names code that is not trusted.
    """
    for unit in units:
        unit.runs(directory, described, trust)
    code = any(code_name(text) for unit in units for text in unit.texts)
    return WorkerSettings(hardware, trust_code=code, cores=choice.cores)


def say_plan(units: Sequence[Unit], directory: Path, settings: WorkerSettings, console: Console) -> None:
    """Say how units are done by jobs, and what to do afterwards."""
    numbers = [unit.number for unit in units]
    shown = (
        f"{numbers[0]} to {numbers[-1]}" if numbers == list(range(numbers[0], numbers[-1] + 1)) else numbers
    )
    console.say(
        f"{len(units)} units of work are planned, {shown}. Each is one job, in any order: "
        f"{shlex.join(['tametail', *settings.words(directory)])} --unit N. Then repeat this command without --engine plan for the "
        f"report."
    )


def remove_work(directory: Path, described: Mapping[str, Any]) -> None:
    """Remove what workers share and leave, if none is needed any more, as all runs have ended."""
    folders = [
        run_directory(directory, text, *place) for text in described["methods"] for place in places(described)
    ]
    if all(map(is_ended, folders)):
        study_file.remove_work_folder(directory)


def _saved(unit: Unit, directory: Path) -> tuple[frozenset[str], int]:
    """Names of the checkpoints and finished runs of a unit, and the number of blocks of features that all share."""
    place = f"seed{unit.seed}-fold{unit.fold}"
    found = [
        *directory.glob(f"runs/*/.{place}*{study_file.CHECKPOINT}/*"),
        *directory.glob(f"runs/*/{place}"),
    ]
    return frozenset(str(path.relative_to(directory)) for path in found), blocks_in(directory)


def _title(unit: Unit, runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return runs[0].title
    return f"{len(runs)} runs of seed {unit.seed} fold {unit.fold}"


class RunCallback:
    """The display of one run."""

    def __init__(self, display: TrainingDisplay, title: str, measure: str) -> None:
        self._display, self._title, self._measure = display, title, measure
        display.begin(title, 0, 0)

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        self._display.begin(self._title, epochs, steps_per_epoch, measure=self._measure)

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        self._display.step(epoch, step, loss, lr, images)

    def epoch(self, record: EpochRecord) -> None:
        self._display.epoch(record)


class _StacksCallback:
    """The display of stacks that are trained in parallel, as one training with their mean progress."""

    def __init__(self, display: TrainingDisplay, stacks: int, runs: Sequence[Run], measure: str) -> None:
        self._display, self._stacks = display, stacks
        self._begun, self._done, self._steps, self._epoch = False, 0, 1, 0
        self._lock = Lock()
        self._runs = len(runs)
        folds = len({run.fold for run in runs})
        self._title = f"{len(runs)} heads, {folds} {'fold' if folds == 1 else 'folds'}"
        self._measure = measure
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
            so_far = self._done // self._stacks
            self._display.step(so_far // self._steps, so_far % self._steps, loss, lr, images)

    def epoch(self, record: EpochRecord) -> None:
        with self._lock:
            mean = self._done // self._stacks // self._steps
            if mean > self._epoch:
                self._epoch = mean
                self._display.epoch(replace(record, epoch=mean, images_per_second=0.0))


def _measure(context: RunContext) -> str:
    """The validation metric after an epoch."""
    return "mean average precision" if context.training_data.table.multi_label else "balanced accuracy"
