"""Processes that share the trainings of one folder: a search or a recommendation, by any engine.

Each of these workers restores its inputs from the folder, and does whatever no other one does until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.interruption import Interrupted
from tametail.engines.choose import PLAN, EngineChoice
from tametail.engines.engine import Engine, run_units
from tametail.storage.study_file import WORK_FOLDER
from tametail.study.worker import WorkerSettings, describe_work, share_work
from tametail.training.checkpointing.checkpointer import Stop, Stopped

_JOBS = 4  # of a cluster, unless the user says otherwise


def check_shared(choice: EngineChoice) -> None:
    """Refuse an engine that only plans.

    Raises:
        UsageError: it is one.
    """
    if choice.name == PLAN:
        raise UsageError(
            "expected --engine local, slurm or ray: there are no units to plan; any number of processes may share the work"
        )


def share(
    choice: EngineChoice,
    folder: Path,
    settings: WorkerSettings,
    *,
    gpu: bool,
    left: Callable[[], int],
    console: Console,
    stop: Stop,
) -> None:
    """Have workers do all trainings of a folder, as far as they can.

    Args:
        choice: the engine.
        settings: of the workers.
        gpu: whether they use GPUs.
        left: number of trainings that are not done.

    Raises:
        Stopped: requested; everything that was trained is stored.
    """
    work = describe_work(folder, settings, 1, gpu=gpu, call=share_work)
    engine = choice.make(work)
    console.say(f"{left()} trainings, shared by {engine.description}")
    run_by(
        engine,
        range(len(choice.slots) or choice.jobs or _JOBS),
        title="Trainings",
        left=left,
        is_done=lambda _: not left(),
        saved=lambda _: (left(), blocks_in(folder)),
        console=console,
        stop=stop,
    )


def run_by(
    engine: Engine,
    units: Collection[int],
    *,
    title: str,
    left: Callable[[], int],
    is_done: Callable[[int], bool],
    saved: Callable[[int], object],
    console: Console,
    stop: Stop,
) -> None:
    """Have an engine do units, and show how many steps are left; units that fail are left as they are.

    Args:
        title: of the steps.
        left: number of steps that are not done.
        is_done, saved: see `tametail.engines.engine.run_units`.

    Raises:
        Stopped: requested; all units have saved.
    """
    with console.track(title, total := left()) as advance:
        shown = 0

        def show() -> None:
            nonlocal shown
            done = total - left()
            advance(done - shown)
            shown = done

        try:
            run_units(
                engine,
                units,
                is_done=is_done,
                saved=saved,
                on_done=lambda _: show(),
                on_wait=show,
                warn=console.warn,
                stop_requested=lambda: stop.requested,
            )
        except Interrupted as error:
            raise Stopped from error


def blocks_in(folder: Path) -> int:
    """Number of blocks of features that processes of this folder have computed."""
    return len(list((folder / WORK_FOLDER).glob("*.safetensors")))
