"""What an engine does: it starts units of work by number, and tells when one has ended. What a unit is, it does not know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tametail.core.interruption import Interrupted

MOST_STARTS = 4  # of a unit that ends before it is finished
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Work:
    """What an engine runs.

    Attributes:
        call: does the units of these numbers; it can be pickled, and runs in another process.
        command: the words of a command line that does the same when ``--unit`` and the numbers are added.
        folder: for files of the engine, such as the output of jobs.
        threads: CPU threads that a unit uses.
        gpu: whether a unit uses a GPU.
    """

    call: Callable[[Sequence[int]], None]
    command: Sequence[str]
    folder: Path
    threads: int
    gpu: bool


@dataclass(frozen=True)
class Ended:
    """A unit that an engine no longer runs.

    Attributes:
        unit: its number.
        error: why it ended, as far as that is known; empty where nothing went wrong.
        fatal: whether it would end in the same way again.
    """

    unit: int
    error: str = ""
    fatal: bool = False


class Engine(Protocol):
    """Runs units of work on other processes or machines.

    Attributes:
        description: for messages, such as ``3 processes``.
    """

    @property
    def description(self) -> str: ...

    def start(self, units: Sequence[int]) -> None:
        """Run units, as soon as there is room."""

    def poll(self) -> list[Ended]:
        """The units that have ended since the last call; it does not wait."""

    def stop(self) -> None:
        """Have all units save and stop, and return when they have; nothing is started any more."""


def run_units(
    engine: Engine,
    units: Collection[int],
    *,
    is_done: Callable[[int], bool],
    saved: Callable[[int], object],
    on_done: Callable[[int], None],
    on_wait: Callable[[], None],
    warn: Callable[[str], None],
    stop_requested: Callable[[], bool],
) -> dict[int, str]:
    """Run units by an engine until each is done; one that ends before is started again.

    Args:
        units: their numbers.
        is_done: whether a unit is done, whoever did it.
        saved: what there is of a unit on disk. One that has saved more before it ended may be started any number of times, as
            jobs with a time limit are; others a few times.
        on_done: called when a unit is done.
        on_wait: called about every second.
        warn: prints a warning.
        stop_requested: whether the user asked to stop.

    Returns:
        The units that ended several times before they were done, and why.

    Raises:
        Interrupted: requested, after all units have saved and stopped.
    """
    starts, found, lost = dict.fromkeys(units, 1), {unit: saved(unit) for unit in units}, dict[int, str]()
    waiting, finished = set(units), False
    try:
        engine.start(list(units))
        while waiting:
            if stop_requested():
                raise Interrupted
            for ended in engine.poll():
                unit, error = ended.unit, ended.error or "it ended before it was finished"
                if unit not in waiting:
                    continue
                before, found[unit] = found[unit], saved(unit)
                if is_done(unit):
                    waiting.remove(unit)
                    on_done(unit)
                elif ended.fatal or (before == found[unit] and starts[unit] == MOST_STARTS):
                    waiting.remove(unit)
                    lost[unit] = error
                else:
                    starts[unit] = starts[unit] + 1 if before == found[unit] else 1
                    warn(f"unit {unit} is started again: {error}")
                    engine.start([unit])
            on_wait()
        finished = True
    finally:
        if finished:
            engine.stop()
        else:
            _stop(engine, warn)
    return lost


def _stop(engine: Engine, warn: Callable[[str], None]) -> None:
    """Stop after an error or a signal, whose cause is to be shown, and not what went wrong in stopping."""
    try:
        engine.stop()
    except Exception as error:  # noqa: BLE001
        warn(f"not all units could be stopped: {error}")
