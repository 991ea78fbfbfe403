"""One process at a time holds a lock, whoever waits learns who that is, and what a killed process left is taken over."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from pathlib import Path

import pytest

import tametail as tt
from fixtures.lock_holder import lock_holder, without_flock
from tametail.core import processes
from tametail.core.errors import DataError, TametailError
from tametail.storage import locks
from tametail.storage.locks import LOCK, files_of, hold, holder, is_held, lock_folder
from tametail.storage.unlock import find_locks

DAY = 86_400.0


@pytest.fixture(params=[True, False], ids=["flock", "no flock"])
def flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system has locks."""
    if not request.param:
        without_flock(monkeypatch)
    return bool(request.param)


def age(path: Path, seconds: float) -> None:
    """Let the last sign of life of a lock's holder be older."""
    record = files_of(path)[0]
    seen = record.stat().st_mtime - seconds
    os.utime(record, (seen, seen))


def test_a_held_lock_names_who_holds_it(tmp_path: Path, flock: bool) -> None:
    path = tmp_path / LOCK
    job = {"SLURM_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"}
    with lock_holder(path, flock=flock, **job) as other:
        found = holder(path)
        assert found is not None
        assert (found.pid, found.host, found.version) == (other.pid, processes.host_name(), tt.__version__)
        assert (found.job, found.alive, found.stale) == ("Slurm job 4711, task 3", True, False)
        assert found.age < 5
        assert is_held(path)
        said = rf"another process uses {tmp_path}: process {other.pid} on .* \(Slurm job 4711, task 3\), .* UTC, last sign"
        with pytest.raises(TametailError, match=said), lock_folder(tmp_path):
            pass
        assert other.poll() is None
    assert not is_held(path)
    assert holder(path) is None
    with lock_folder(tmp_path):
        assert is_held(path)


def test_a_lock_of_a_killed_process_is_taken_over(tmp_path: Path, flock: bool) -> None:
    path = tmp_path / LOCK
    with lock_holder(path, flock=flock) as other:
        other.kill()
        other.wait()
    found = holder(path)
    assert found is not None
    assert (found.alive, found.stale) == (False, True)
    with lock_folder(tmp_path):
        own = holder(path)
        assert own is not None
        assert own.pid == os.getpid()
    assert set(tmp_path.iterdir()) <= {path}


def test_a_later_process_of_the_same_number_is_not_mistaken_for_the_holder(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    with hold(path):
        content = files_of(path)[0].read_text()
        same = json.loads(content)
    for start, alive in ((same["start"], True), (same["start"] + 1, False), (None, True)):
        files_of(path)[0].write_text(json.dumps(same | {"start": start}))
        found = holder(path)
        assert found is not None
        assert found.alive is alive


def test_a_zombie_is_not_running() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    end = time.monotonic() + 30
    while processes.is_running(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not processes.is_running(child)
    os.waitpid(child, 0)
    assert processes.is_running(os.getpid(), processes.process_start(os.getpid()))


def test_a_mark_of_another_machine_stays_and_its_removal_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LOCK
    without_flock(monkeypatch)
    with lock_holder(path, host="node7", flock=False) as other:
        other.kill()
        other.wait()
    with (
        pytest.raises(TametailError, match=r"on node7, .*wait for it, .* tametail unlock"),
        lock_folder(tmp_path),
    ):
        pass
    with pytest.raises(TametailError, match=r"on another machine.*--force"):
        tt.unlock(tmp_path)
    age(path, 3 * DAY)
    for wait in (False, True):  # it does not wait for ever
        said = f"on node7, .* last sign of life 3 days ago. If it has ended, .* tametail unlock {tmp_path}"
        with pytest.raises(TametailError, match=said), lock_folder(tmp_path, wait=wait):
            pass
    assert tt.unlock(tmp_path) == [path]
    with lock_folder(tmp_path):
        assert is_held(path)


def test_a_file_system_that_locks_on_each_machine_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is free here, yet the record of the other machine is refreshed."""
    path = tmp_path / LOCK
    with lock_holder(path, host="node7") as other:
        other.kill()
        other.wait()
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.4)
    age(path, 0.2)
    assert is_held(path)
    end = threading.Event()

    def refresh() -> None:
        while not end.wait(0.05):
            os.utime(files_of(path)[0])

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        with pytest.raises(TametailError, match="on node7"), lock_folder(tmp_path):
            pass
    finally:
        end.set()
        thread.join()
    said: list[str] = []
    with lock_folder(tmp_path, say=said.append):  # once there were no signs of life
        assert is_held(path)
    assert len(said) == 1
    assert "may be in use by process" in said[0]


def test_a_lock_whose_file_was_removed_is_still_one(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    with lock_holder(path):
        path.unlink()
        with pytest.raises(TametailError, match="another process uses"), lock_folder(tmp_path):
            pass
    with lock_folder(tmp_path):
        pass


def test_a_process_shows_signs_of_life(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    with lock_holder(path, heartbeat=0.05):
        age(path, DAY)
        end = time.monotonic() + 60
        while files_of(path)[0].stat().st_mtime < time.time() - DAY / 2 and time.monotonic() < end:
            time.sleep(0.02)
        found = holder(path)
        assert found is not None
        assert found.age < DAY / 2


def test_a_file_system_without_locks_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_flock(monkeypatch)
    said: list[str] = []
    for _ in range(2):
        with lock_folder(tmp_path, say=said.append):
            pass
    assert len(said) == 1
    assert "without locks" in said[0]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "[" * 100_000, '{"pid": -1, "host": 3}'])
def test_a_damaged_record_is_that_of_nobody(tmp_path: Path, content: str) -> None:
    path = tmp_path / LOCK
    files_of(path)[0].write_text(content)
    assert holder(path) is None
    with lock_folder(tmp_path):
        assert is_held(path)
    files_of(path)[0].unlink(missing_ok=True)
    os.mkfifo(files_of(path)[0])
    assert holder(path) is None


def test_waiting_ends_when_the_lock_is_free(tmp_path: Path, flock: bool) -> None:
    path = tmp_path / LOCK
    seen: list[object] = []
    with lock_holder(path, flock=flock) as other:

        def waiting(found: object) -> None:
            seen.append(found)
            assert other.stdin is not None
            other.stdin.close()

        with hold(path, wait=60, waiting=waiting):
            assert seen
        other.stdin = None
    with hold(path), pytest.raises(TametailError, match="wait for it"), hold(path, wait=0.1):
        pass


def test_unlock_refuses_what_is_in_use(tmp_path: Path, flock: bool) -> None:
    path = tmp_path / "runs" / "ce" / ".seed0-fold0.lock"
    path.parent.mkdir(parents=True)
    with lock_holder(path, flock=flock) as other:
        with pytest.raises(TametailError, match=rf"process {other.pid} .*it is running.*--force"):
            tt.unlock(tmp_path)
        assert is_held(path)
        assert tt.unlock(tmp_path, force=True) == [path]
        with hold(path):
            assert is_held(path)


def test_unlock_removes_what_a_killed_process_left(tmp_path: Path, flock: bool) -> None:
    path = tmp_path / LOCK
    (tmp_path / "study.json").touch()
    (tmp_path / "foreign.lock").touch()
    with lock_holder(path, flock=flock) as other:
        other.kill()
        other.wait()
    assert [re.sub(" on .*", "", str(lock)) for lock in find_locks(tmp_path)] == [
        f"{path}: process {other.pid}"
    ]
    assert tt.unlock(tmp_path) == [path]
    assert tt.unlock(tmp_path) == []
    assert {file.name for file in tmp_path.iterdir()} <= {"study.json", "foreign.lock", LOCK}


def test_unlock_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is none"):
        tt.unlock(tmp_path / "absent")
