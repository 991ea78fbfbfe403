"""Processes that share the trainings of one folder: a search or a recommendation, by any engine.

Each of these workers restores its inputs from the folder, and does whatever no other one does until nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.interruption import Interrupted
from tametail.engines.choose import PLAN, EngineChoice
from tametail.engines.engine import run_units
from tametail.storage.study_file import remove_work_folder
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
    jobs = len(choice.slots) or choice.jobs or _JOBS
    console.say(f"{left()} trainings, shared by {engine.description}")
    with console.track("Trainings", total := left()) as advance:
        shown = 0

        def show() -> None:
            nonlocal shown
            done = total - left()
            advance(done - shown)
            shown = done

        try:
            run_units(
                engine,
                range(jobs),
                is_done=lambda _: not left(),
                saved=lambda _: left(),
                on_done=lambda _: None,
                on_wait=show,
                warn=console.warn,
                stop_requested=lambda: stop.requested,
            )
        except Interrupted as error:
            raise Stopped from error
    remove_work_folder(folder)
