"""Where trials are kept: a journal of Optuna's in the output folder, and who is at work on it.

Optuna's own locks are files, which a killed process leaves behind for 30 s, and a line that a killed process had written by
half makes its journal unreadable. So the lock here is the system's, which dies with its process, and whoever takes it cuts
a half-written line off first: what it said is done again.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tametail.core.atomic import make_folder
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.storage.search_file import JOURNAL
from tametail.training.checkpointing.interrupts import Stop, Stopped

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

LOCK, JUDGING = ".lock", ".judging.lock"
_PATIENCE = 1.0  # seconds between two looks at whether someone asked to stop
WORKERS = ".workers"
SEARCH = "search"  # attribute of a study: the digest of what it belongs to


class Lock(Protocol):
    """A lock of the system's on a file."""

    def acquire(self, timeout: float | None = None) -> object: ...
    def release(self) -> None: ...


class JournalLock:
    """The lock that Optuna's journal takes for each write; see the module."""

    def __init__(self, journal: Path) -> None:
        from filelock import FileLock

        self._journal = journal
        self._lock = FileLock(journal.with_name(f".{journal.name}.lock"))

    def acquire(self) -> bool:
        """Wait for the lock, and leave a journal of whole lines."""
        self._lock.acquire()
        cut_half_line(self._journal)
        return True

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


def cut_half_line(journal: Path) -> None:
    """Cut off what follows the last whole line; a journal that is not there is left alone."""
    try:
        size = journal.stat().st_size
    except FileNotFoundError:
        return
    with journal.open("rb+") as handle:
        keep, step = size, 65536
        while keep:
            start = max(keep - step, 0)
            handle.seek(start)
            at = handle.read(keep - start).rfind(b"\n")
            if at >= 0:
                keep = start + at + 1
                break
            keep = start
        if keep < size:
            handle.truncate(keep)
            os.fsync(handle.fileno())


def open_journal(directory: Path) -> BaseStorage:
    """The journal of a search, begun where there is none.

    Raises:
        DataError: it is damaged.
        TametailError: it cannot be written.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    class Backend(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with explain_save_error(path):
                super().append_logs(logs)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = directory / JOURNAL
    with explain_save_error(path), reading(directory):
        lock = JournalLock(path)
        lock.acquire()
        try:
            _check_lines(path)
            return JournalStorage(Backend(str(path), lock_obj=lock))  # type: ignore[arg-type]
        finally:
            lock.release()


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """What is wrong with a journal that can be parsed or not, told with the way to go on; around reading alone.

    Raises:
        DataError: in place of what a missing or misshapen record gives.
    """
    try:
        yield
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        RuntimeError,
        zlib.error,
    ) as error:
        raise DataError(
            f"expected the trials of a search at {directory / JOURNAL}, but it is damaged ({error!r}); put it back from a copy, or "
            "begin anew in another folder with -o"
        ) from error


def check_search(storage: BaseStorage, directory: Path, search: str) -> None:
    """Refuse trials of another search, as are left where search.json was removed or replaced.

    Args:
        search: the digest of all that fixes the trials.

    Raises:
        UsageError: it says what is there and what to do.
    """
    for study in storage.get_all_studies():
        found = study.user_attrs.get(SEARCH)
        if found != search and (found is not None or storage.get_n_trials(study._study_id)):
            raise UsageError(
                f"expected the trials of this search ({search[:8]}) in {directory / JOURNAL}, found those of another ({str(found)[:8]}): "
                "of other data, splits, recipe, method, space, sampler, metric or seeds; give another folder with -o, or remove "
                f"{JOURNAL} to begin anew"
            )


def _check_lines(journal: Path) -> None:
    """Have every line read: Optuna takes a last line that it cannot read for one that is still being written."""
    if journal.is_file():
        with journal.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if "op_code" not in json.loads(line):
                    raise ValueError(f"line {number} is no record")


def open_study(storage: BaseStorage, name: str, search: str) -> Study:
    """A search's trials by name; only for whoever holds the folder's lock.

    Args:
        search: see `check_search`.
    """
    import optuna

    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    if study.user_attrs.get(SEARCH) != search:
        study.set_user_attr(SEARCH, search)
    return study


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the search's folder for a moment, waiting for it as long as it takes."""
    from filelock import FileLock

    with explain_save_error(directory / LOCK):
        lock = FileLock(directory / LOCK)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def judging(directory: Path, stop: Stop, tell: Callable[[str], None]) -> Iterator[None]:
    """Be the one who judges: a lock of its own, so that others see meanwhile what is done.

    Args:
        tell: is told once where another process has to be waited for.

    Raises:
        Stopped: asked to while waiting.
    """
    from filelock import FileLock, Timeout

    with explain_save_error(directory / JUDGING):
        lock, told = FileLock(directory / JUDGING), False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_PATIENCE)
            except Timeout:
                if stop.requested:
                    raise Stopped from None
                if not told:
                    tell("Another process is judging what was chosen; waiting for it ...")
                told = True
    try:
        yield
    finally:
        lock.release()


class Worker:
    """This process among those that share a search. It is known by a lock that it holds for as long as it lives."""

    def __init__(self, directory: Path) -> None:
        from filelock import FileLock

        self._directory = directory / WORKERS
        self.name = secrets.token_hex(8)
        with explain_save_error(self._directory):
            make_folder(self._directory)
            self._lock = FileLock(self._path(self.name))
            self._lock.acquire(timeout=0)

    def lives(self, name: str) -> bool:
        """Whether a process of that name is at work; what a dead one has left is removed."""
        from filelock import FileLock, Timeout

        if name == self.name:
            return True
        if not self._path(name).is_file():
            return False
        other = FileLock(self._path(name))
        try:
            other.acquire(timeout=0)
        except Timeout:
            return True
        with suppress(OSError):
            self._path(name).unlink()
        other.release()
        return False

    def leave(self) -> None:
        """End the work."""
        with suppress(OSError):
            self._path(self.name).unlink()
        self._lock.release()
        with suppress(OSError):
            self._directory.rmdir()

    def _path(self, name: str) -> Path:
        return self._directory / name


@contextmanager
def working(directory: Path) -> Iterator[Worker]:
    """A worker for as long as the block lasts."""
    worker = Worker(directory)
    try:
        yield worker
    finally:
        worker.leave()
