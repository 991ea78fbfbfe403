"""Units in processes of this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tametail.core.errors import DataError
from tametail.engines.engine import Ended, Work
from tametail.engines.local import LocalEngine, usable_cores


def note(folder: Path, units: Sequence[int]) -> None:
    """A unit that leaves a file with its process and what it sees; some misbehave."""
    (unit,) = units
    if unit == 13 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if unit == 17:
        raise DataError("the images are missing")
    if unit == 19:
        raise ValueError("odd")
    if unit == 23:
        (folder / "sleeps").touch()
        signal.signal(signal.SIGTERM, lambda *_: (folder / "saved").touch())
        while not (folder / "saved").exists():
            time.sleep(0.02)
        return
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "-"), os.environ["OMP_NUM_THREADS"]
    (folder / str(unit)).write_text(f"{os.getpid()} {' '.join(seen)}", encoding="utf-8")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(partial(note, tmp_path), ["none"], tmp_path, threads=3, gpu=False)


@pytest.fixture
def engine(work: Work) -> Iterator[LocalEngine]:
    found = LocalEngine(work, [None, None])
    yield found
    found.stop()


def all_ended(engine: LocalEngine, count: int) -> dict[int, Ended]:
    found: dict[int, Ended] = {}
    end = time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < end
        found |= {ended.unit: ended for ended in engine.poll()}
    return found


def test_processes_stay_warm_and_have_their_threads(engine: LocalEngine, tmp_path: Path) -> None:
    engine.start(range(6))
    assert all_ended(engine, 6) == {unit: Ended(unit) for unit in range(6)}
    processes, devices, threads = zip(
        *((tmp_path / str(unit)).read_text().split() for unit in range(6)), strict=True
    )
    assert 1 <= len(set(processes)) <= 2
    assert str(os.getpid()) not in processes
    assert set(threads) == {"3"}
    assert set(devices) == {os.environ.get("CUDA_VISIBLE_DEVICES", "-")}


def test_each_process_sees_its_gpu(work: Work, tmp_path: Path) -> None:
    engine = LocalEngine(work, ["4", "7"])
    assert engine.description == "2 processes on GPUs 4, 7"
    engine.start(range(8))
    all_ended(engine, 8)
    engine.stop()
    assert {(tmp_path / str(unit)).read_text().split()[1] for unit in range(8)} == {"4", "7"}


def test_a_killed_process_takes_no_other_with_it(engine: LocalEngine, tmp_path: Path) -> None:
    engine.start([13, 1, 2])
    ended = all_ended(engine, 3)
    assert "killed" in ended[13].error
    assert not ended[13].fatal
    assert ended[1] == Ended(1)
    engine.start([13])
    assert all_ended(engine, 1) == {13: Ended(13)}


def test_errors_are_told_and_those_that_come_again_are_fatal(engine: LocalEngine) -> None:
    engine.start([17, 19])
    ended = all_ended(engine, 2)
    assert ended[17] == Ended(17, "the images are missing", fatal=True)
    assert ended[19] == Ended(19, "ValueError: odd")


def test_stopping_has_units_save_and_starts_no_others(engine: LocalEngine, tmp_path: Path) -> None:
    engine.start([23, 1, 2, 3])
    while not (tmp_path / "sleeps").exists():
        engine.poll()
    engine.stop()
    assert (tmp_path / "saved").exists()


def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert usable_cores() == 1
