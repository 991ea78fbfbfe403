"""When a run is checkpointed, and how it is resumed; its checkpoints are in a folder next to its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from torch import Tensor

from tametail.core.errors import UsageError
from tametail.core.interruption import Interrupted, handle_signals
from tametail.storage.study_file import CHECKPOINT
from tametail.training.checkpointing.checkpoint import CheckpointStore, TrainingState, pack, unpack

SECONDS = "TAMETAIL_CHECKPOINT_SECONDS"  # environment variable
_DEFAULT_SECONDS = 60.0
_MAX_OVERHEAD = 0.05  # fraction of the time that saving may take


def checkpoint_directory(run: Path) -> Path:
    """Folder of a run's checkpoints until it is finished."""
    return run.with_name(f".{run.name}{CHECKPOINT}")


def checkpoint_interval() -> float:
    """Seconds between two checkpoints, from the environment.

    Raises:
        UsageError: the variable is not a number of seconds.
    """
    text = os.environ.get(SECONDS, "")
    try:
        seconds = float(text or _DEFAULT_SECONDS)
        if not seconds >= 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"expected a number of seconds >= 0 in {SECONDS}, got {text!r}") from None
    return seconds


class Checkpointer(Protocol):
    """Saves and loads the state of a training run."""

    def load(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]] | None:
        """The last saved tensors and state, or None."""

    def due(self) -> bool:
        """Whether it is time to save."""

    def stop_requested(self) -> bool:
        """Whether the run should save and stop."""

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save a checkpoint; the previous one remains until this one is complete on disk."""


def resume(checkpointer: Checkpointer | None, training: TrainingState) -> Mapping[str, Any] | None:
    """Load the last checkpoint into a training run, and return its state; None where there is no checkpoint."""
    loaded = checkpointer.load() if checkpointer else None
    if loaded is None:
        return None
    unpack(training, *loaded)
    return loaded[1]


def save_or_stop(
    checkpointer: Checkpointer | None,
    training: TrainingState,
    progress: Callable[[], Mapping[str, Any]],
    *,
    stop: bool,
    writes: bool = True,
) -> None:
    """Save a checkpoint if one is due or the run is to stop.

    Args:
        progress: returns JSON values to save with the state.
        writes: whether this process writes checkpoints.

    Raises:
        Stopped: ``stop`` is set, and everything is saved.
    """
    if checkpointer is None:
        return
    if writes and (stop or checkpointer.due()):
        tensors, state = pack(training)
        checkpointer.save(tensors, {**state, **progress()})
    if stop:
        raise Stopped


class RunCheckpointer(Checkpointer):
    """Checkpoints of one run: every few seconds, less often where saving is slow, and when the run is to stop.

    Args:
        run: the run's directory.
        identity: digest of what determines the result; checkpoints of another identity are ignored.
        stop: whether the user asked to stop.
        warn: receives warnings for the user.
        writes: whether this process saves checkpoints.
    """

    def __init__(
        self, run: Path, identity: str, stop: Stop, warn: Callable[[str], None], *, writes: bool = True
    ) -> None:
        self._store = CheckpointStore(checkpoint_directory(run))
        self._identity = identity
        self._stop = stop
        self._warn = warn
        self._writes = writes
        self._pause = checkpoint_interval()
        self._last = time.monotonic()

    def load(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]] | None:
        found = self._store.load()
        if found is None and self._store.damaged:
            self._warn(
                f"no checkpoint in {self._store.directory} can be used ({'; '.join(self._store.damaged)}); the run starts again"
            )
        if found is None or found.state.get("identity") != self._identity:
            return None
        if found.note:
            self._warn(found.note)
        return found.tensors, found.state

    def due(self) -> bool:
        return self._writes and time.monotonic() - self._last >= self._pause

    def stop_requested(self) -> bool:
        return self._stop.requested

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        if not self._writes:
            return
        began = time.monotonic()
        self._store.save(tensors, {**state, "identity": self._identity})
        self._last = time.monotonic()
        if self._pause:
            self._pause = max(self._pause, (self._last - began) / _MAX_OVERHEAD)

    def remove(self) -> None:
        """Delete the checkpoints."""
        self._store.remove()


class Stopped(Interrupted):
    """The work was interrupted, and its state is saved."""


class Stop:
    """A request to stop.

    Attributes:
        signal: number of the first signal; None before it.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether the work should save and stop."""
        return self.signal is not None


@contextmanager
def stop_on_signals(on_request: Callable[[], None] | None = None) -> Iterator[Stop]:
    """Turn the first signal inside the block into a request to stop; a second one raises `Interrupted`.

    The signals are Ctrl-C and SIGTERM, and SIGHUP on the command line, see `tametail.core.interruption`. A `Stopped` that
    leaves the block has the number of the signal.

    Args:
        on_request: called from the signal handler at the first signal, to print a message; its I/O errors are ignored.
    """
    stop = Stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise Interrupted(number)
        stop.signal = number
        if on_request:
            with suppress(OSError, RuntimeError):  # a closed terminal; a stream in the middle of a write
                on_request()

    try:
        with handle_signals(handle):
            yield stop
    except Stopped as error:
        error.number = stop.signal or error.number
        raise
