"""How Ctrl-C, SIGTERM and SIGHUP end a command: with one line and exit code 128 + number, after what is done is saved.

Only the command line handles all three, from its start; in Python, trainings handle Ctrl-C and SIGTERM alone. What a
process was started to ignore (``nohup``, a shell's background job) stays ignored.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from tametail.core.ranks import process_rank

Handler = Callable[[int, FrameType | None], None]

_HANGUP = getattr(signal, "SIGHUP", None)  # POSIX alone has it
_ALWAYS = (signal.SIGINT, signal.SIGTERM)
_advice: str | None = None  # of the command that runs; None in Python


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def exit_code(number: int) -> int:
    """The exit code of a process that a signal ended, as shells have it."""
    return 128 + number


@contextmanager
def handle_signals(handle: Handler) -> Iterator[None]:
    """Call a function at each signal inside the block; only in the main thread, which Python restricts signals to."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _handled()}
    try:
        _set_handlers(before, handle)
        yield
    finally:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, handler)


@contextmanager
def raise_on_signals(advice: str) -> Iterator[None]:
    """Raise `Interrupted` at each signal inside the block, which is the work of a command.

    During an import, where the exception could be lost or turned into another one, the process ends at once: nothing is
    being written then.

    Args:
        advice: what to print after "Interrupted.".
    """
    global _advice

    def handle(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            quit_at_once(number)
        raise Interrupted(number)

    before, _advice = _advice, advice
    try:
        with handle_signals(handle):
            yield
    finally:
        _advice = before


def quit_on_signals() -> None:
    """From now on, let a signal end the process at once, with one line: the start and the end of a command."""
    global _advice
    _advice = _advice or ""
    _set_handlers({number: signal.getsignal(number) for number in _handled()}, quit_at_once)


def treat_as_sigterm(name: str) -> None:
    """Let another signal, where the system has it, do what SIGTERM does."""
    number = getattr(signal, name, None)
    if number is not None:
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def quit_at_once(number: int, _frame: FrameType | None = None) -> NoReturn:
    """Print one line, and end the process."""
    with suppress(OSError):
        if process_rank() == 0:  # all of several processes are ended together
            os.write(2, f"{interruption_message(_advice or '')}\n".encode())
    os._exit(exit_code(number))


def interruption_message(advice: str) -> str:
    """The one line that is printed."""
    return f"Interrupted. {advice}".strip()


def _handled() -> tuple[int, ...]:
    return _ALWAYS if _advice is None or _HANGUP is None else (*_ALWAYS, _HANGUP)


def _set_handlers(before: dict[int, Any], handle: Handler) -> None:
    def act(number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            _leave_lost_terminal()
        handle(number, frame)

    for number, handler in before.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, act)


def _leave_lost_terminal() -> None:
    """Print to nowhere if the terminal is gone: each further line would be an error in the middle of saving."""
    for stream in (1, 2):
        try:
            os.get_terminal_size(stream)
        except OSError as error:
            if error.errno == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False
