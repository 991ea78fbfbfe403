"""When and where a training is kept while it goes on: checkpoints of one run, in a folder beside its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tametail.core.errors import UsageError
from tametail.storage.study_file import CHECKPOINT
from tametail.training.checkpointing.checkpoint import CheckpointStore
from tametail.training.checkpointing.interrupts import Stop

SECONDS = "TAMETAIL_CHECKPOINT_SECONDS"  # environment variable
_DEFAULT_SECONDS = 60.0
_MOST_SHARE = 0.05  # of the time, that saving may take


def checkpoint_directory(run: Path) -> Path:
    """Where the checkpoints of a run lie until it is finished."""
    return run.with_name(f".{run.name}{CHECKPOINT}")


def checkpoint_interval() -> float:
    """How long a training goes on between two checkpoints, from the environment.

    Raises:
        UsageError: the variable is set to something that is no number of seconds.
    """
    text = os.environ.get(SECONDS, "")
    try:
        seconds = float(text or _DEFAULT_SECONDS)
        if not seconds >= 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"expected a number of seconds >= 0 in {SECONDS}, got {text!r}") from None
    return seconds


class RunCheckpointer:
    """Keeps one run: a checkpoint every so many seconds, seldomer where saving takes long, and one when asked to stop.

    Args:
        run: the directory that the run will have.
        identity: what fixes the run's result; checkpoints of another are not used.
        stop: whether someone asked to stop.
        warn: is told what the user should know.
    """

    def __init__(self, run: Path, identity: str, stop: Stop, warn: Callable[[str], None]) -> None:
        self._store = CheckpointStore(checkpoint_directory(run))
        self._identity = identity
        self._stop = stop
        self._warn = warn
        self._pause = checkpoint_interval()
        self._last = time.monotonic()

    def load(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]] | None:
        """What was kept last of this very run."""
        found = self._store.load()
        if found is None and self._store.damaged:
            self._warn(
                f"no checkpoint in {self._store.directory} can be used ({'; '.join(self._store.damaged)}); the run begins anew"
            )
        if found is None or found.state.get("identity") != self._identity:
            return None
        if found.note:
            self._warn(found.note)
        return found.tensors, found.state

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self._pause

    def stop_requested(self) -> bool:
        """Whether someone asked to stop."""
        return self._stop.requested

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep this moment; the one before stays until it is whole on the disk."""
        began = time.monotonic()
        self._store.save(tensors, {**state, "identity": self._identity})
        self._last = time.monotonic()
        if self._pause:
            self._pause = max(self._pause, (self._last - began) / _MOST_SHARE)

    def remove(self) -> None:
        """Forget the checkpoints of a run that has its result."""
        self._store.remove()
