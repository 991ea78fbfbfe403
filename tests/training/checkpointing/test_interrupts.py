from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import threading
from pathlib import Path

import pytest

from fixtures.forked import fork_server
from tametail.training.checkpointing.checkpointer import Stop, Stopped, stop_on_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")


def script(text: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, since a mistake in it could end these tests."""
    imports = "import os, signal, subprocess, sys, time\nfrom tametail.training.checkpointing.checkpointer import Stopped, stop_on_signals\n"
    return fork_server().run("-c", imports + textwrap.dedent(text), directory=Path.cwd())


@pytest.mark.parametrize("first", SIGNALS, ids=lambda s: s.name)
@pytest.mark.parametrize("second", SIGNALS, ids=lambda s: s.name)
def test_the_first_asks_and_the_second_ends(first: signal.Signals, second: signal.Signals) -> None:
    said: list[str] = []
    with stop_on_signals(lambda: said.append("saving")) as stop:
        assert not stop.requested
        signal.raise_signal(first)
        assert stop.requested
        assert said == ["saving"]
        with pytest.raises(KeyboardInterrupt) as raised:
            signal.raise_signal(second)
    assert not isinstance(raised.value, Stopped)
    assert said == ["saving"]


@pytest.mark.parametrize("ending", [None, ValueError, Stopped, KeyboardInterrupt])
def test_afterwards_the_handlers_are_as_before(ending: type[BaseException] | None) -> None:
    def own(*_: object) -> None:
        pass

    before = {number: signal.signal(number, own) for number in SIGNALS}
    try:
        if ending is None:
            with stop_on_signals():
                assert signal.getsignal(signal.SIGTERM) is not own
        else:
            with pytest.raises(ending), stop_on_signals():
                raise ending
        assert [signal.getsignal(number) for number in SIGNALS] == [own, own]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_within_another_the_inner_one_is_asked() -> None:
    with stop_on_signals() as outer:
        with stop_on_signals() as inner:
            signal.raise_signal(signal.SIGINT)
        assert (outer.requested, inner.requested) == (False, True)
        signal.raise_signal(signal.SIGINT)
        assert outer.requested


@pytest.mark.parametrize("error", [BrokenPipeError, RuntimeError])
def test_an_error_while_printing_does_not_end_the_work(error: type[Exception]) -> None:
    def say() -> None:
        raise error("reentrant call")

    with stop_on_signals(say) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


def test_in_another_thread_nothing_is_requested() -> None:
    found: list[Stop] = []

    def work() -> None:
        with stop_on_signals() as stop:
            found.append(stop)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not found[0].requested
    assert signal.getsignal(signal.SIGINT) is before


def test_stopped_is_a_keyboard_interrupt() -> None:
    assert issubclass(Stopped, KeyboardInterrupt)
    assert not issubclass(Stopped, Exception)


def test_a_signal_that_was_ignored_from_the_start_is_ignored_still() -> None:
    ended = script("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with stop_on_signals() as stop:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            print(stop.requested)
            signal.raise_signal(signal.SIGTERM)
            print(stop.requested)
        print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
    """)
    assert ended.stdout.split() == ["False", "True", "True"], ended.stderr


def test_ctrl_c_in_a_terminal_reaches_a_loading_process_and_the_batches_still_come() -> None:
    ended = script("""
        from torch.utils.data import DataLoader
        os.setsid()
        loader = DataLoader(range(60), batch_size=1, num_workers=2, multiprocessing_context="fork")
        with stop_on_signals() as stop:
            for number, _ in enumerate(loader):
                if number == 5:
                    os.killpg(0, signal.SIGINT)
        print(number, stop.requested)
    """)
    assert ended.stdout.split() == ["59", "True"], ended.stderr
