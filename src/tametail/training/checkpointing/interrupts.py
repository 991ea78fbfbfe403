"""Being asked to stop: the first request lets the work at hand be saved, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The work was asked to stop, and has saved what is needed to go on."""


class Stop:
    """Whether anyone has asked to stop.

    Attributes:
        requested: true from the first request on.
    """

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signals(on_request: Callable[[], None] | None = None) -> Iterator[Stop]:
    """Inside, SIGTERM and SIGINT (Ctrl-C) only ask; once more raises KeyboardInterrupt. Afterwards all is as before.

    A signal that this process was started to ignore (``nohup``, a shell's background job) is ignored still. In a thread other
    than the main one, where no signal arrives, the result never asks.

    Args:
        on_request: called at the first request, in the middle of whatever is being done: to say so. What it cannot print
            just then is lost.
    """
    stop = Stop()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        else:
            stop.requested = True
            if on_request:
                with suppress(OSError, RuntimeError):  # a closed terminal; a stream in the middle of a write
                    on_request()

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in ours:
            signal.signal(number, handle)
        yield stop
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
