"""The trials of a search in an Optuna journal, and the locks by which processes share the work.

Optuna's own locks are files, which a killed process leaves behind for 30 s, and an incomplete line of a killed process makes
its journal unreadable. So the locks here are those of the operating system, which end with their process, and whoever takes
the journal's lock first removes an incomplete line: what it recorded is computed again.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.core.atomic import make_folder
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.regular_file import regular
from tametail.core.removal import remove
from tametail.storage.locks import LOCK, Holder, Lock, files_of, holder, is_held, lock_folder
from tametail.storage.search_file import JOURNAL
from tametail.training.checkpointing.checkpointer import Stop, Stopped

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

EVALUATION_LOCK, WORKERS = ".evaluation.lock", ".workers"
_NAME = re.compile("[0-9a-f]{16}")  # of a worker
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError, zlib.error)
SEARCH = "search"  # attribute of an Optuna study: the digest of the search that it belongs to


class JournalLock:
    """The lock that Optuna's journal takes for each write; see the module."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = Lock(journal.with_name(f".{journal.name}{LOCK}"))

    def acquire(self) -> bool:
        """Wait for the lock, then remove an incomplete last line of the journal."""
        self._lock.acquire(wait=math.inf)
        remove_incomplete_line(self._journal)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def remove_incomplete_line(journal: Path) -> None:
    """Truncate a file after its last newline; an absent file is left alone."""
    try:
        size = journal.stat().st_size
    except FileNotFoundError:
        return
    with regular(journal).open("rb+") as handle:
        end, newline = size, -1
        while end and newline < 0:
            start = max(end - 65536, 0)
            handle.seek(start)
            newline = handle.read(end - start).rfind(b"\n")
            end = start + newline + 1
        if end < size:
            handle.truncate(end)
            os.fsync(handle.fileno())


def open_journal(directory: Path) -> BaseStorage:
    """Open the journal of a search, or create it.

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
    with explain_save_error(path), explain_damage(directory):
        lock = JournalLock(path)
        lock.acquire()
        try:
            _check_lines(path)
            return JournalStorage(Backend(str(path), lock_obj=lock))  # type: ignore[arg-type]
        finally:
            lock.release()


@contextmanager
def explain_damage(directory: Path) -> Iterator[None]:
    """Turn the errors of reading a damaged journal into a `DataError` that says what to do."""
    try:
        yield
    except _DAMAGE as error:
        raise DataError(
            f"expected the trials of a search at {directory / JOURNAL}, but the file is damaged ({error!r}); restore it from a "
            "copy, or start again in another folder with -o"
        ) from error


def check_search(storage: BaseStorage, directory: Path, search: str) -> None:
    """Refuse the trials of another search, which remain where search.json was removed or replaced.

    Args:
        search: digest of everything that determines the trials.

    Raises:
        UsageError: the message says what was found and what to do.
    """
    for study in storage.get_all_studies():
        found = study.user_attrs.get(SEARCH)
        if found != search and (found is not None or storage.get_n_trials(study._study_id)):
            raise UsageError(
                f"expected the trials of this search ({search[:8]}) in {directory / JOURNAL}, found those of another ({str(found)[:8]}), "
                "with other data, splits, recipe, method, space, sampler, metric or seeds; give another folder with -o, or remove "
                f"{JOURNAL} to start again"
            )


def _check_lines(journal: Path) -> None:
    """Parse every line: Optuna takes an unreadable last line for one that is still being written."""
    if journal.is_file():
        with journal.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if "op_code" not in json.loads(line):
                    raise ValueError(f"line {number} is not a record")


def open_study(storage: BaseStorage, name: str, search: str) -> Study:
    """The trials of one search by name, see `check_search`; the caller must hold the folder's lock."""
    import optuna

    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    if study.user_attrs.get(SEARCH) != search:
        study.set_user_attr(SEARCH, search)
    return study


def folder_lock(directory: Path) -> AbstractContextManager[None]:
    """Hold the lock of a search's folder, waiting for it if necessary."""
    return lock_folder(directory, wait=True)


@contextmanager
def evaluation_lock(
    directory: Path, stop: Stop, say: Callable[[str], None], *, poll_seconds: float = 1.0
) -> Iterator[None]:
    """Hold the lock of the final evaluation; other processes can read the folder meanwhile.

    Args:
        say: prints a line, once, if another process has to be waited for.
        poll_seconds: how often ``stop`` is checked while waiting.

    Raises:
        Stopped: requested while waiting.
    """
    said = False

    def waiting(found: Holder | None) -> None:
        nonlocal said
        if stop.requested:
            raise Stopped
        if not said:
            say(
                f"Another process is evaluating the selected values{f': {found}' if found else ''}; waiting for it ..."
            )
        said = True

    lock = Lock(directory / EVALUATION_LOCK)
    with explain_save_error(lock.path):
        lock.acquire(wait=math.inf, waiting=waiting, poll=poll_seconds)
    try:
        yield
    finally:
        lock.release()


class Worker:
    """This process among those that share a search, identified by a lock that it holds until it ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / WORKERS
        self.name = secrets.token_hex(8)
        with explain_save_error(self._directory):
            make_folder(self._directory)
            self._lock = Lock(self._path(self.name))
            with folder_lock(
                directory
            ):  # so that no other worker takes it for a dead one's before it is held
                self._lock.acquire()

    def is_alive(self, name: str) -> bool:
        """Whether the worker of that name is running; the lock of one that ended, or must be taken for ended, is removed."""
        if name == self.name:
            return True
        if not _NAME.fullmatch(name):  # a name from a file may be a path
            return False
        path = self._path(name)
        found = holder(path)
        if is_held(path) and not (found is not None and found.stale):
            return True
        for file in files_of(path):
            remove(file)
        return False

    def close(self) -> None:
        """Release the lock, and remove those of dead workers."""
        self._lock.release()
        remove(self._path(self.name))
        with suppress(OSError), folder_lock(self._directory.parent):
            for name in {path.name.partition(".")[0] for path in self._directory.iterdir()}:
                self.is_alive(name)
            self._directory.rmdir()

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{LOCK}"


def register_worker(directory: Path) -> closing[Worker]:
    """A worker that is closed at the end of the block."""
    return closing(Worker(directory))
