"""Units are run until each is done, whatever happens to the processes that run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from tametail.core.interruption import Interrupted
from tametail.engines.engine import MOST_STARTS, Ended, run_units


@dataclass
class Scripted:
    """An engine whose units end as a function tells, at the next poll."""

    ends: Callable[[int, int], Ended]
    started: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    stopped: int = 0
    description: str = "scripted"

    def start(self, units: Sequence[int]) -> None:
        self.started += units
        self.running += units

    def poll(self) -> list[Ended]:
        found, self.running = self.running, []
        return [self.ends(unit, self.started.count(unit)) for unit in found]

    def stop(self) -> None:
        self.stopped += 1


def run(
    engine: Scripted,
    units: Sequence[int],
    *,
    is_done: Callable[[int], bool],
    saved: Callable[[int], object] = lambda _: 0,
    stop_requested: Callable[[], bool] = lambda: False,
) -> tuple[dict[int, str], list[int], list[str]]:
    done: list[int] = []
    said: list[str] = []
    lost = run_units(
        engine,
        units,
        is_done=is_done,
        saved=saved,
        on_done=done.append,
        on_wait=lambda: None,
        warn=said.append,
        stop_requested=stop_requested,
    )
    return lost, done, said


def test_each_unit_is_run_once_if_nothing_happens() -> None:
    engine = Scripted(lambda unit, _: Ended(unit))
    assert run(engine, [3, 0, 7], is_done=lambda _: True) == ({}, [3, 0, 7], [])
    assert engine.started == [3, 0, 7]
    assert engine.stopped == 1


def test_a_unit_that_ends_too_early_is_started_again() -> None:
    engine = Scripted(lambda unit, start: Ended(unit, "" if start > 2 else "killed"))
    lost, done, said = run(engine, [1, 2], is_done=lambda unit: engine.started.count(unit) > 2)
    assert (lost, sorted(done)) == ({}, [1, 2])
    assert engine.started.count(1) == engine.started.count(2) == 3
    assert said[0] == "unit 1 is started again: killed"


def test_a_unit_that_never_gets_anywhere_is_given_up_and_the_others_are_not() -> None:
    engine = Scripted(lambda unit, _: Ended(unit, "out of memory"))
    lost, done, _ = run(engine, [1, 2], is_done=lambda unit: unit == 2)
    assert lost == {1: "out of memory"}
    assert done == [2]
    assert engine.started.count(1) == MOST_STARTS


def test_a_unit_that_saves_more_each_time_goes_on_as_long_as_it_takes() -> None:
    engine = Scripted(lambda unit, _: Ended(unit, "time limit"))
    lost, done, _ = run(
        engine, [1], is_done=lambda _: len(engine.started) == 20, saved=lambda _: len(engine.started)
    )
    assert (lost, done) == ({}, [1])


def test_an_error_that_would_come_again_is_not_tried_again() -> None:
    engine = Scripted(lambda unit, _: Ended(unit, "images are missing", fatal=True))
    assert run(engine, [1], is_done=lambda _: False)[0] == {1: "images are missing"}
    assert engine.started == [1]


def test_a_stop_request_stops_all_units() -> None:
    engine = Scripted(lambda unit, _: Ended(unit))
    with pytest.raises(Interrupted):
        run(engine, [1, 2], is_done=lambda _: False, stop_requested=lambda: True)
    assert engine.stopped == 1


def test_units_are_stopped_after_an_error_too() -> None:
    def broken(unit: int, _: int) -> Ended:
        raise OSError("disk")

    engine = Scripted(broken)
    with pytest.raises(OSError, match="disk"):
        run(engine, [1], is_done=lambda _: False)
    assert engine.stopped == 1
