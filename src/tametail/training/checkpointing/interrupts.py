"""Interruption by signals: the first one lets the current work be saved, the second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The work was interrupted, and its state is saved."""


class Stop:
    """A request to stop.

    Attributes:
        requested: True after the first signal.
    """

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signals(on_request: Callable[[], None] | None = None) -> Iterator[Stop]:
    """Turn the first SIGTERM or SIGINT (Ctrl-C) inside the block into a request; a second one raises KeyboardInterrupt.

    A signal that this process was started to ignore (``nohup``, a shell's background job) is still ignored. Outside the
    main thread, where no signal arrives, nothing is ever requested.

    Args:
        on_request: called from the signal handler at the first signal, to print a message; its I/O errors are ignored.
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
