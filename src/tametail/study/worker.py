"""Do units of a study in this process, which need not be the one that planned them: `tametail work`, and all engines.

The inputs are restored from the study's folder, once per process. A lock keeps two processes from doing the same unit: the
second one waits, and finds it done.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack, cast

from tametail.core.atomic import make_folder
from tametail.core.console import Console
from tametail.core.errors import explain_save_error
from tametail.core.option import declared, takes
from tametail.core.options import WorkOptions
from tametail.core.run_files import is_ended
from tametail.core.trust import Trust
from tametail.engines.engine import Work
from tametail.storage.identity import digest_of_identity
from tametail.storage.locks import Lock, is_held
from tametail.storage.study_file import (
    STUDY_FOLDER,
    WORK_FOLDER,
    begun_evaluation,
    read_study_file,
    refuse_shared,
)
from tametail.study.inputs import load_inputs
from tametail.study.predict_test_set import evaluated_part, is_done, predict_test_of
from tametail.study.progress import ProgressFile
from tametail.study.settings import hardware_from
from tametail.study.train_units import UnitTrainer
from tametail.study.units import Unit, find_units, read_units
from tametail.training.checkpointing.checkpointer import Stop, Stopped, checkpoint_interval, stop_on_signals
from tametail.training.hardware import Hardware, check_one_process, make_accelerator, torch_threads
from tametail.training.recipe import recorded_recipe
from tametail.training.run import RunContext
from tametail.training.trackers import check_trackers
from tametail.training.unlikeness_file import save_study_unlikeness

# Workers of other folders, by the file that marks them; by name, as this module is below theirs.
_SHARED = {"search.json": "tametail.search.worker", "settings.json": "tametail.recommend.worker"}
_LOCK_SECONDS = 0.5  # between two looks at whether a stop is requested, while another process holds a unit


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker does its units.

    Attributes:
        hardware: how the machine is used.
        image_root: folder of the images, if it is not the recorded one.
        trust_code: whether code that the study's files name may be run.
        track: experiment trackers to log to.
        test_set: whether the test set is predicted with finished runs, in an evaluation that has begun, and nothing trained.
        cores: CPU threads for features and predictions, which do not depend on them; None for torch's default.
    """

    hardware: Hardware
    image_root: str | None = None
    trust_code: bool = False
    track: tuple[str, ...] = ()
    test_set: bool = False
    cores: int | None = None

    def words(self, study: Path) -> list[str]:
        """The words after ``tametail`` of a command line that does units."""
        hardware = self.hardware
        options = {
            "device": hardware.device,
            "micro_batch": hardware.micro_batch,
            "compile": hardware.compile,
            "workers": hardware.workers,
            "validate": hardware.validate_epochs,
            "image_root": self.image_root,
            "trust_code": self.trust_code,
            "track": list(self.track) or None,
            "test_set": self.test_set,
        }
        known = declared(WorkOptions)
        given = {name: value for name, value in options.items() if value != known[name].default}
        words = [word for name, value in given.items() for word in known[name].written(value)]
        return ["work", str(study), *words]


def describe_work(
    study: Path,
    settings: WorkerSettings,
    threads: int,
    *,
    gpu: bool,
    call: Callable[[str, WorkerSettings, Sequence[int]], None] | None = None,
) -> Work:
    """What an engine runs for a study, or by ``call`` for another folder."""
    folder = study.resolve()
    # -P: what lies in the current folder is not imported.
    command = [sys.executable, "-P", "-m", "tametail", *settings.words(folder)]
    do = partial(call or run_units, str(folder), settings)
    return Work(do, command, folder / WORK_FOLDER, threads, gpu)


@takes(WorkOptions)
def work(study: str | Path, *, console: Console | None = None, **options: Unpack[WorkOptions]) -> int:
    """Train units of a study, as one of possibly many workers: what a job of a scheduler runs.

    The workers of a search or recommendation share its trainings until none is left, whatever their number.

    `compare` makes the plan of units, and, when it is repeated after them, the report. Units that another process works on are
    waited for if they are named, and else left to it.

    Args:
        study: the study's folder.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        Number of units of the study that are not done.

    Raises:
        DataError: there is no study, or its images or weights have changed.
        UsageError: a unit that the study does not have.
        Stopped: interrupted by Ctrl-C or SIGTERM, with everything saved.
    """
    console, directory = console or Console(quiet=True), Path(study)
    check_one_process("work on units (start the command several times to share the work)")
    checkpoint_interval()
    track, root = tuple(options["track"] or ()), options["image_root"]
    check_trackers(track)
    settings = WorkerSettings(
        hardware_from(options),
        None if root is None else str(root),
        options["trust_code"],
        track,
        options["test_set"],
    )
    if _shared(directory):
        share_work(str(directory), settings)
        return 0
    refuse_shared(directory, read_study_file(directory))
    wanted = options["unit"]
    numbers = (
        [unit.number for unit in read_units(directory)] if wanted is None else cast(Sequence[int], wanted)
    )
    evaluation = _evaluation(directory, settings)
    units = [unit for unit in find_units(directory, numbers) if not is_done(unit, directory, evaluation)]
    with stop_on_signals(lambda: console.say("Saving ... (once more to quit at once)")) as stop:
        for unit in units:
            if wanted is None and is_worked_on(directory, unit.number):
                continue
            console.say(f"Unit {unit.number}: {', '.join(unit.texts)}, seed {unit.seed}, fold {unit.fold}")
            _do(directory, unit, settings, stop, console)
    return sum(not is_done(unit, directory, evaluation) for unit in read_units(directory))


def run_units(study: str, settings: WorkerSettings, numbers: Sequence[int]) -> None:
    """Do units of a study by number, as an engine's process: silently, with warnings in the progress file.

    Raises:
        Stopped: a signal asked for it, and everything is saved.
    """
    directory = Path(study)
    with stop_on_signals() as stop:
        for unit in find_units(directory, numbers):
            _do(directory, unit, settings, stop, None)


def share_work(folder: str, settings: WorkerSettings, _: Sequence[int] = ()) -> None:
    """Do the trainings of a search or recommendation that no other process does, until none is left.

    Raises:
        Stopped: a signal asked for it; everything that was trained is stored.
    """
    with stop_on_signals() as stop:
        import_module(_shared(Path(folder)) or "").work(Path(folder), settings, stop)


def _shared(folder: Path) -> str | None:
    """The module of the workers of a search or recommendation; None for another folder."""
    if (folder / STUDY_FOLDER.file).is_file():
        return None
    return next((module for file, module in _SHARED.items() if (folder / file).is_file()), None)


def _do(directory: Path, unit: Unit, settings: WorkerSettings, stop: Stop, console: Console | None) -> None:
    """Do a unit and, before it, those that it needs."""
    evaluation = _evaluation(directory, settings)
    for needed in find_units(directory, unit.needs) if unit.needs and evaluation is None else ():
        _do(directory, needed, settings, stop, console)
    with _unit_lock(directory, unit.number, stop):
        if is_done(unit, directory, evaluation):
            return
        progress = ProgressFile(directory, unit.number)
        described = read_study_file(directory)
        progress.starts("images and features")
        context = _restored(directory, settings, described, stop)
        if evaluation is not None:
            trained, after = evaluated_part(unit, directory).runs(directory, described, context.trust)
            with torch_threads(settings.cores):
                predict_test_of([*trained, *after], context, evaluation, stop, progress.starts)
            return

        def warn(text: str) -> None:
            progress.warn(text)
            if console:
                console.warn(text)

        trainer = UnitTrainer(context, described, settings.track, stop, warn)
        trained, after = unit.runs(directory, described, context.trust)
        if unit.stacked:
            progress.starts(f"{len(trained)} heads, fold {unit.fold}")
            trainer.train_stacks([trained], progress)
        for run in after if unit.stacked else [*trained, *after]:
            if not is_ended(run.directory(directory)):
                progress.starts(run.title)
                trainer.train_run(run, progress)


def _evaluation(directory: Path, settings: WorkerSettings) -> int | None:
    """The number of the test-set evaluation that has begun; None for training.

    Raises:
        UsageError: none has begun.
    """
    return begun_evaluation(directory) if settings.test_set else None


_contexts: dict[tuple[Path, WorkerSettings, str], RunContext] = {}  # the last one of this process


def _restored(
    directory: Path, settings: WorkerSettings, described: Mapping[str, Any], stop: Stop
) -> RunContext:
    """What the runs of a study share, restored from its folder once per process.

    Raises:
        Stopped: requested; what was computed of features is kept.
    """
    key = directory, settings, digest_of_identity(described)
    if key not in _contexts:
        _contexts.clear()
        training = not settings.test_set
        accelerator = make_accelerator(
            recorded_recipe(described), settings.hardware.device, training=training
        )
        root, silent = settings.image_root, Console(quiet=True)
        inputs = load_inputs(directory, described, image_root=root, training=training, console=silent)
        with torch_threads(settings.cores):
            data = inputs.training_data(
                accelerator, silent, described["threads"], stop=stop, shared=directory
            )
        if training and inputs.recipe.trains == "head":
            save_study_unlikeness(directory, digest_of_identity(described), data, inputs.spec.blocks)
        trust = Trust(settings.trust_code)
        _contexts[key] = RunContext(data, inputs.recipe, accelerator, directory, settings.hardware, trust)
    return _contexts[key]


def is_worked_on(study: Path, unit: int) -> bool:
    """Whether a process holds a unit."""
    return is_held(_lock_file(study, unit))


@contextmanager
def _unit_lock(study: Path, unit: int, stop: Stop) -> Iterator[None]:
    """Hold a unit, waiting for another process that does.

    Raises:
        Stopped: requested while waiting.
    """

    def check(_: object) -> None:
        if stop.requested:
            raise Stopped

    path = _lock_file(study, unit)
    with explain_save_error(path):
        make_folder(path.parent)
        lock = Lock(path)
        lock.acquire(wait=math.inf, waiting=check, poll=_LOCK_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _lock_file(study: Path, unit: int) -> Path:
    return study / WORK_FOLDER / f"unit-{unit}.lock"
