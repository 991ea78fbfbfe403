"""Remove locks that processes left when they were killed, in the folder of a study, search or recommendation."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from tametail.core.console import Console
from tametail.core.errors import DataError, TametailError, explain_save_error
from tametail.core.option import takes
from tametail.core.options import UnlockOptions
from tametail.storage.locks import LOCK, MARK, RECORD, Holder, files_of, hold, holder, is_held

_DEEPEST = 4  # levels of folders that may hold locks


@dataclass(frozen=True)
class FoundLock:
    """A lock that a process holds, or left when it was killed.

    Attributes:
        path: its file.
        holder: who holds it; None if that is not recorded.
        held: whether the system, or a file in the place of its lock, keeps other processes out.
    """

    path: Path
    holder: Holder | None
    held: bool

    @property
    def is_stale(self) -> bool:
        """Whether it can be removed without harm to a process at work."""
        return not self.held or (self.holder is not None and self.holder.stale)

    def __str__(self) -> str:
        if self.holder is None:
            return f"{self.path}: held by a process that is not recorded"
        state = {
            True: "it is running",
            False: "it has ended",
            None: "on another machine or in another container",
        }
        return f"{self.path}: {self.holder}; {state[self.holder.alive]}"


def find_locks(folder: Path) -> list[FoundLock]:
    """The locks in a folder and those below it that are held, or were when their process was killed, sorted by path."""
    paths = set()
    for place, folders, files in os.walk(folder):
        if len(Path(place).relative_to(folder).parts) >= _DEEPEST:
            folders.clear()
        for name in files:
            base = name.removesuffix(RECORD).removesuffix(MARK)
            if base.endswith(LOCK):
                paths.add(Path(place, base))
    found = [FoundLock(path, holder(path), is_held(path)) for path in sorted(paths)]
    return [lock for lock in found if lock.held or lock.holder is not None]


@takes(UnlockOptions)
def unlock(
    folder: str | Path, *, console: Console | None = None, **options: Unpack[UnlockOptions]
) -> list[Path]:
    """Remove the locks that killed processes left in the folder of a study, search or recommendation.

    Args:
        folder: what `compare`, `search` or `recommend` wrote.
        console: where the locks are described; None for silence.
        options: see below.

    Returns:
        The locks that were removed.

    Raises:
        DataError: there is no such folder.
        TametailError: a process is at work there, or may be; its lock stays unless it is forced.
    """
    console, directory = console or Console(quiet=True), Path(folder)
    if not directory.is_dir():
        raise DataError(
            f"expected the folder of a study, search or recommendation at {directory}, but there is none"
        )
    found = find_locks(directory)
    removed, kept = [], []
    for lock in found:
        console.say(str(lock))
        if not (options["force"] or lock.is_stale):
            kept.append(lock)
            continue
        with explain_save_error(lock.path):
            _remove(lock)
        removed.append(lock.path)
    console.say(f"removed {len(removed)} of {len(found)} locks" if found else f"{directory} is not locked")
    if kept:
        raise TametailError(
            f"expected locks of ended processes in {directory}, but {kept[0]}. Wait until it has ended, or stop it; if you are "
            f"sure that it has ended, add --force"
        )
    return removed


def _remove(lock: FoundLock) -> None:
    if not lock.held:
        with suppress(TametailError), hold(lock.path):  # which replaces the record, and removes its own
            return
    for file in files_of(lock.path):
        with suppress(FileNotFoundError):
            file.unlink()
