"""Units in processes of this machine: one for each slot, which stays warm, and may have a GPU of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field

from tametail.core.errors import TametailError
from tametail.core.interruption import Interrupted, exit_code
from tametail.engines.engine import POLL_SECONDS, Ended, Work

_ONE_EACH = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GPUS = "CUDA_VISIBLE_DEVICES"
_busy = threading.Event()  # in a process that runs units: whether it runs one


def usable_cores() -> int:
    """Number of CPU cores that this process may use, which a scheduler or container may limit."""
    try:
        return max(len(os.sched_getaffinity(0)), 1)
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


class LocalEngine:
    """Processes of this machine.

    Args:
        work: what they run.
        slots: for each process the GPU that it sees, as in ``CUDA_VISIBLE_DEVICES``; None for all.
    """

    def __init__(self, work: Work, slots: Sequence[str | None]) -> None:
        self._call = work.call
        self._slots = [_Slot(device, work.threads) for device in slots]
        self._waiting: deque[int] = deque()

    @property
    def description(self) -> str:
        devices = [slot.device for slot in self._slots if slot.device is not None]
        on = f" on GPUs {', '.join(devices)}" if devices else ""
        return f"{len(self._slots)} {'process' if len(self._slots) == 1 else 'processes'}{on}"

    def start(self, units: Sequence[int]) -> None:
        self._waiting.extend(units)
        self._fill()

    def poll(self) -> list[Ended]:
        ended = [slot.take() for slot in self._slots if slot.future is not None and slot.future.done()]
        self._fill()
        if not ended:
            time.sleep(POLL_SECONDS)
        return ended

    def stop(self) -> None:
        self._waiting.clear()
        for slot in self._slots:
            slot.interrupt()
        for slot in self._slots:
            slot.close()

    def _fill(self) -> None:
        for slot in self._slots:
            if slot.future is None and self._waiting:
                slot.run(self._call, self._waiting.popleft())


@dataclass
class _Slot:
    """One process and the unit that it runs. A process that dies takes no other one with it, and is replaced."""

    device: str | None
    threads: int
    pool: ProcessPoolExecutor | None = None
    process: Future[int] | None = None
    future: Future[None] | None = field(default=None)
    unit: int = -1

    def run(self, call: Callable[[Sequence[int]], None], unit: int) -> None:
        if self.pool is None:
            # Not forked: torch's threads and CUDA do not survive a fork.
            context = multiprocessing.get_context("spawn")
            begin = (self.device, self.threads)
            self.pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=begin)
            self.process = self.pool.submit(os.getpid)
        self.unit = unit
        self.future = self.pool.submit(_do, call, unit)

    def take(self) -> Ended:
        """The unit that has ended."""
        assert self.future is not None
        future, self.future = self.future, None
        try:
            future.result()
        except BrokenProcessPool:
            self.close()
            return Ended(self.unit, "its process was killed, or the system had too little memory")
        except Interrupted:
            return Ended(self.unit, "its process was interrupted")
        except TametailError as error:
            return Ended(self.unit, str(error), fatal=True)
        except Exception as error:  # noqa: BLE001
            return Ended(self.unit, f"{type(error).__name__}: {error}")
        return Ended(self.unit)

    def interrupt(self) -> None:
        """Have the process save and stop."""
        if self.future is not None and self.process is not None and not self.future.done():
            with suppress(BrokenProcessPool, ProcessLookupError):
                os.kill(self.process.result(), signal.SIGTERM)

    def close(self) -> None:
        """Wait for the unit to end, and end the process."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
        self.pool = self.process = self.future = None


def _begin(device: str | None, threads: int) -> None:
    """Set up a process before it imports torch."""
    os.environ.update(dict.fromkeys(_ONE_EACH, str(threads)))
    if device is not None:
        os.environ[_GPUS] = device
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes of a terminal: the coordinator decides
    threading.Thread(target=_end_with_coordinator, daemon=True).start()


def _do(call: Callable[[Sequence[int]], None], unit: int) -> None:
    _busy.set()
    try:
        call([unit])
    finally:
        _busy.clear()


def _end_with_coordinator() -> None:
    """Save and end when the process that started this one is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        if _busy.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        while _busy.is_set():
            time.sleep(POLL_SECONDS)
        os._exit(exit_code(signal.SIGTERM))
