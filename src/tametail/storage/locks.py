"""Locks that name their holder: one process at a time works in a folder, or on a file, also if machines of a cluster share it.

A lock is one of the operating system (flock), which ends with its process. Where the file system has none, a file marks it,
which is taken over from a process of this machine that has ended. Whoever holds a lock says in a record next to it who it is,
and refreshes the time of the record as a sign of life. `tametail.storage.unlock` removes what an ended process left.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from tametail.core import processes
from tametail.core.errors import TametailError, explain_save_error
from tametail.core.regular_file import regular
from tametail.core.removal import remove, temporary_sibling
from tametail.core.version import __version__

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"  # of a folder, and the suffix of all other locks
MARK, RECORD = ".soft", ".json"  # suffixes next to a lock: in place of flock, and who holds it
HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 300.0  # without a sign of life, a process of another machine is taken for ended
_NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_MISSED = 1.5  # heartbeats: whoever was not seen for so long has missed one
_TRY_SECONDS = 0.2  # as `is_held` may hold the lock for a moment
_LONGEST_RECORD = 65_536
_JOBS = (  # of a scheduler: its name, and the variables with the number of a job and of its task
    ("Slurm", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID"),
    ("PBS", "PBS_JOBID", "PBS_ARRAY_INDEX"),
    ("LSF", "LSB_JOBID", "LSB_JOBINDEX"),
    ("Flux", "FLUX_JOB_ID", ""),
    ("OAR", "OAR_JOB_ID", ""),
    ("Grid Engine", "JOB_ID", "SGE_TASK_ID"),
)
_beating: dict[Path, int] = {}  # the records of this process, and their inodes
_announced: set[Path] = set()
os.register_at_fork(after_in_child=_beating.clear)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or held it when it was killed.

    Attributes:
        host: name of the machine.
        machine: see `tametail.core.processes.machine`.
        pid: number of the process.
        start: see `tametail.core.processes.process_start`.
        job: of a scheduler; empty if there is none.
        version: of tametail.
        since: when it took the lock, in UTC.
        age: seconds since its last sign of life.
    """

    host: str
    machine: str
    pid: int
    start: int | None
    job: str
    version: str
    since: str
    age: float = 0.0

    @property
    def alive(self) -> bool | None:
        """Whether the process runs; None if it cannot be known, as it is one of another machine or container."""
        if self.machine != processes.machine():
            return None
        return processes.is_running(self.pid, self.start)

    @property
    def stale(self) -> bool:
        """Whether the process has ended, or must be taken for ended."""
        return self.age > STALE_SECONDS if self.alive is None else not self.alive

    def __str__(self) -> str:
        job = f" ({self.job})" if self.job else ""
        return (
            f"process {self.pid} on {self.host}{job}, tametail {self.version}, since {self.since}, last sign of life "
            f"{_duration(self.age)} ago"
        )


class Lock:
    """A lock on a file of this name, whose folder must exist.

    Args:
        say: receives a line if it takes a while to see whether a process of another machine is at work.
    """

    def __init__(self, path: Path, say: Callable[[str], None] | None = None) -> None:
        self.path = path
        self._say = say
        self._held: BaseFileLock | None = None

    def acquire(
        self, *, wait: float = 0.0, waiting: Callable[[Holder | None], None] | None = None, poll: float = 0.05
    ) -> None:
        """Take the lock.

        Args:
            wait: seconds to wait for another process, possibly infinite.
            waiting: called between two attempts with whoever holds it, if that is known.
            poll: seconds between two attempts.

        Raises:
            TametailError: another process holds it; the message says which, and what to do.
            OSError: its folder cannot be written.
        """
        end = time.monotonic() + wait
        while not self.try_acquire():
            found = holder(self.path)
            lost = found is not None and found.alive is None and found.stale
            if lost or time.monotonic() >= end:
                raise TametailError(_in_use(self.path, found))
            if waiting is not None:
                waiting(found)
            time.sleep(min(poll, max(end - time.monotonic(), 0.0)))

    def release(self) -> None:
        """Release the lock."""
        if self._held is not None:
            record = _record_of(self.path)
            inode = _beating.pop(record, None)
            with suppress(OSError):
                if (
                    record.stat().st_ino == inode
                ):  # else tametail unlock --force gave the lock to another process
                    remove(record)
            self._held.release()
            self._held = None

    @property
    def by_file(self) -> bool:
        """Whether a file marks the lock that is held, as the file system has no flock."""
        return self._held is not None and Path(self._held.lock_file).name != self.path.name

    def try_acquire(self) -> bool:
        """Take the lock unless another process holds it; whether it was taken."""
        lock = _taken(self.path, _TRY_SECONDS)
        if lock is None:
            return False
        try:
            if _is_claimed(self.path, self._say):
                lock.release()
                return False
            _write_record(self.path)
        except BaseException:
            lock.release()
            raise
        self._held = lock
        return True


@contextmanager
def hold(
    path: Path,
    *,
    wait: float = 0.0,
    waiting: Callable[[Holder | None], None] | None = None,
    poll: float = 0.05,
) -> Iterator[Lock]:
    """Hold a lock during the block; see `Lock.acquire`."""
    lock = Lock(path)
    lock.acquire(wait=wait, waiting=waiting, poll=poll)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def lock_folder(
    directory: Path, *, wait: bool = False, say: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a folder for this process alone.

    Args:
        wait: wait for another process.
        say: receives a line, once, if the file system has no locks, or if another machine is waited for.

    Raises:
        TametailError: another process holds it, or it is not writable.
    """
    lock = Lock(directory / LOCK, say)
    with explain_save_error(lock.path):
        lock.acquire(wait=math.inf if wait else 0.0)
    try:
        if say is not None and lock.by_file and directory not in _announced:
            _announced.add(directory)
            say(
                f"{directory} is on a file system without locks (flock); a file marks it as in use instead. If a process on "
                f"another machine is killed, remove that file with tametail unlock {directory}"
            )
        yield
    finally:
        lock.release()


def holder(path: Path) -> Holder | None:
    """Who holds this lock, or held it when it was killed; None if nobody is recorded."""
    record = _record_of(path)
    try:
        with regular(record).open("rb") as file:
            seen, content = os.fstat(file.fileno()).st_mtime, json.loads(file.read(_LONGEST_RECORD))
        now = time.time() if content["machine"] == processes.machine() else _now(path.parent)
        return _parsed(content, max(now - seen, 0.0))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def is_held(path: Path) -> bool:
    """Whether a process holds this lock, or has held it until a moment ago on another machine."""
    if not (path.exists() or _mark_of(path).exists()):
        return False
    lock = _taken(path, 0.0)
    if lock is None:
        return True
    lock.release()
    found = holder(path)
    return found is not None and found.alive is not False and found.age < _MISSED * HEARTBEAT_SECONDS


def files_of(path: Path) -> tuple[Path, Path, Path]:
    """The files of a lock, of which some may be absent: the record first, then those that keep other processes out."""
    return _record_of(path), _mark_of(path), path


def _taken(path: Path, seconds: float) -> BaseFileLock | None:
    """The lock, or the file in its place where there is no flock; None if another process has it."""
    from filelock import FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=seconds)
        except (NotImplementedError, OSError) as error:
            if isinstance(error, Timeout) or getattr(error, "errno", errno.ENOSYS) not in _NO_FLOCK:
                raise
            lock = SoftFileLock(_mark_of(path))
            lock.acquire(timeout=seconds)  # takes it over from a process of this machine that has ended
    except Timeout:
        return None
    return lock


def _is_claimed(path: Path, say: Callable[[str], None] | None) -> bool:
    """Whether another process is at work although the lock was free.

    Somebody may have removed its file; or the file system locks on each machine by itself, as Lustre and NFS can be mounted.
    Then the record of the other machine is refreshed.
    """
    before = found = holder(path)
    said = False
    while before is not None and found is not None:
        if found.alive is not None:
            own = found.pid == os.getpid() and _record_of(path) not in _beating  # could not be removed
            return found.alive and not own
        if found.age < before.age:
            return True
        if found.age >= _MISSED * HEARTBEAT_SECONDS:
            return False
        if say is not None and not said:
            say(
                f"{path.parent} may be in use by {found}; waiting up to {_MISSED * HEARTBEAT_SECONDS:.0f} s for another one ..."
            )
            said = True
        time.sleep(min(1.0, HEARTBEAT_SECONDS / 10))
        before, found = found, holder(path)
    return False


def _write_record(path: Path) -> None:
    """Say who holds the lock; without it the lock holds as well, as on a full disk."""
    began = datetime.now(UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00") + " UTC"
    own = os.getpid()
    facts = asdict(
        Holder(
            processes.host_name(),
            processes.machine(),
            own,
            processes.process_start(own),
            scheduler_job(),
            __version__,
            began,
        )
    )
    record = _record_of(path)
    temporary = temporary_sibling(record)
    try:
        temporary.write_text(json.dumps(facts))
        inode = temporary.stat().st_ino
        os.replace(temporary, record)
    except OSError:
        remove(temporary)
        return
    _beating[record] = inode
    _start_heartbeat()


def _start_heartbeat() -> None:
    """Start the thread that refreshes the records of this process, if it is not running."""
    global _thread
    if _thread is None or not _thread.is_alive():
        _thread = Thread(target=_beat, name="tametail-heartbeat", daemon=True)
        _thread.start()


_thread: Thread | None = None


def _beat() -> None:
    while not sys.is_finalizing():
        time.sleep(HEARTBEAT_SECONDS)
        for record, inode in list(_beating.items()):
            with suppress(OSError):  # removed by tametail unlock --force
                if record.stat().st_ino == inode:
                    os.utime(record)


def scheduler_job() -> str:
    """The job of a scheduler that this process is part of; empty if there is none."""
    for scheduler, number, task in _JOBS:
        if os.environ.get(number):
            part = os.environ.get(task, "")
            known = f", task {part}" if part not in {"", "0", "undefined"} else ""
            return f"{scheduler} job {os.environ[number]}{known}"[:200]
    return ""


def _parsed(content: Any, age: float) -> Holder:
    found = Holder(**content | {"age": age})
    texts = (found.host, found.machine, found.job, found.version, found.since)
    if not all(isinstance(text, str) and len(text) < 300 for text in texts):
        raise ValueError("expected texts")
    if type(found.pid) is not int or found.pid < 1 or type(found.start) not in {int, type(None)}:
        raise ValueError("expected the number of a process")
    return found


def _in_use(path: Path, found: Holder | None) -> str:
    """The message that a lock is held."""
    what, folder = path.parent if path.name == LOCK else path, path.parent
    by = f"another process uses {what}{f': {found}' if found else ''}"
    if found is not None and found.stale:
        return f"{by}. If it has ended, remove its lock with tametail unlock {folder}"
    return f"{by}; wait for it, or give another folder with -o. If it has ended, tametail unlock {folder} removes its lock"


def _now(folder: Path) -> float:
    """The time by the clock of the file system, as those of machines differ."""
    probe = temporary_sibling(folder / "clock")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + RECORD)


def _mark_of(path: Path) -> Path:
    return path.with_name(path.name + MARK)
