"""The processes of one run watch each other: if one ends early, the others end too instead of waiting for it.

A collective operation may rightly wait for hours, as the main process decodes images or computes features for all, and NCCL
does not report that another process has ended. Each process therefore keeps a TCP connection to the main one. Whatever
ends a process, the system closes its connection at once; keepalive probes find machines that no longer answer. The word
that a process sends before it ends says whether it has failed.
"""

from __future__ import annotations

import datetime
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.util import Finalize
from threading import Event, Lock, Thread
from typing import Any

import torch.distributed

from tametail.core.ranks import LEAD, let_main_end, process_count, process_rank

_DONE, _FAILED = b"done", b"failed"
_PROBES = {
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 4,
}  # a machine counts as lost after a minute
_CONNECT = 30.0  # seconds to connect at the start
_GRACE = 30.0  # seconds for a process to end by itself after another has failed
_NEWS = 2.0  # seconds until the loss of another process is known
_TOKEN = 16  # bytes


class Peers:
    """The connections of a process to the main one, or of the main one to all others.

    Args:
        number: of this process.
        connections: to the others, by their number.
        end: called with a message, or with an empty text where another process prints it, if another process was lost or has
            failed; it must end this process.
        grace: seconds for this process to end by itself after another has failed.
    """

    def __init__(
        self,
        number: int,
        connections: Mapping[int, socket.socket],
        end: Callable[[str], object],
        grace: float = _GRACE,
    ) -> None:
        self._number, self._connections = number, connections
        self._end, self._grace = end, grace
        self._lock = Lock()
        self._left = Event()
        self._another_failed = Event()
        self._threads = [Thread(target=self._watch, args=each, daemon=True) for each in connections.items()]
        for thread in self._threads:
            thread.start()

    def leave(self, *, failed: bool) -> None:
        """Tell the others that this process ends; failures of others no longer end it."""
        with self._lock:
            if not self._left.is_set():
                self._left.set()
                self._send(_FAILED if failed else _DONE)

    def another_failed(self, seconds: float = 0.0) -> bool:
        """Whether another process was lost or has failed; waits for the news."""
        return self._another_failed.wait(seconds)

    def wait_for_main(self, seconds: float) -> None:
        """Wait until the main process ends."""
        if self._number:
            for thread in self._threads:
                thread.join(seconds)

    def _send(self, word: bytes) -> None:
        for connection in self._connections.values():
            with suppress(OSError):
                connection.sendall(word)

    def _watch(self, number: int, connection: socket.socket) -> None:
        """Read what another process says, until its connection is closed."""
        said = b""
        with suppress(OSError):  # no answer from its machine
            while said != _FAILED and (received := connection.recv(len(_FAILED))):
                said += received
        if said == _DONE:
            return
        message = ""
        if said == _FAILED:
            self._another_failed.set()
            self._send(_FAILED)
            self._left.wait(self._grace)
        elif self._number in {0, 1}:  # one process prints it
            message = (
                f"Error: the process of rank {number} (of {process_count()}) was killed (often for lack of memory) or crashed, or its machine "
                f"does not answer. Finished work and the last checkpoint are saved; repeat the command to resume."
            )
        with self._lock:
            if not self._left.is_set():
                self._left.set()
                self._another_failed.set()
                self._send(_FAILED)
                self._end(message)


_peers: Peers | None = None


def watch_peers(broadcast: Callable[[Any], Any]) -> None:
    """Connect the processes of this run and watch them until this process ends; all must call it.

    At its end the process group is destroyed.

    Args:
        broadcast: gives all processes the main one's value.
    """
    global _peers
    if process_count() > 1:
        _peers = Peers(process_rank(), _connect(broadcast), _end_process)
    # Also at the end of processes that multiprocessing starts, unlike atexit.
    Finalize(None, leave_peers, exitpriority=0)


def leave_peers(*, failed: bool | None = None) -> None:
    """Destroy the process group, after the other processes were told that this one ends.

    If it has failed, it gives the main process the time to end first: launchers end all processes after one has failed.

    Args:
        failed: None for whether the interpreter ends by an exception.
    """
    if failed is None:
        failed = getattr(sys, "last_value", None) is not None
    if _peers is not None:
        _peers.leave(failed=failed)
        if failed:
            _peers.wait_for_main(LEAD)
    elif failed:
        let_main_end()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def fails_first(*, unexpected: bool) -> bool:
    """Whether this process is the first to fail: the others fail for the same reason, or because of it.

    Args:
        unexpected: whether the error may come from the loss of another process.
    """
    if _peers is not None and _peers.another_failed(_NEWS if unexpected else 0):
        return False
    hosts = process_rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=hosts,
            wait_for_workers=False,
            multi_tenant=True,
            timeout=datetime.timedelta(seconds=10),
        )
        return bool(store.add("tametail/failed", 1) == 1)
    except (RuntimeError, KeyError, ValueError):
        return True  # the process that has it is gone


def _connect(broadcast: Callable[[Any], Any]) -> dict[int, socket.socket]:
    """Connect the main process with all others, by their number.

    A process that cannot connect, for example because of a firewall, is not watched.
    """
    host = os.environ["MASTER_ADDR"]
    found: dict[int, socket.socket] = {}
    if process_rank():
        port, token = broadcast(None)
        with suppress(OSError):
            connection = socket.create_connection((host, port), timeout=_CONNECT)
            connection.sendall(token + process_rank().to_bytes(4, "big"))
            found[0] = _probed(connection)
        return found
    token, deadline = secrets.token_bytes(_TOKEN), time.monotonic() + _CONNECT
    with socket.create_server(("127.0.0.1" if host in {"127.0.0.1", "localhost"} else "", 0)) as server:
        broadcast((server.getsockname()[1], token))
        while len(found) + 1 < process_count() and (left := deadline - time.monotonic()) > 0:
            with suppress(OSError):
                server.settimeout(left)
                connection, _ = server.accept()
                connection.settimeout(left)
                said = b""
                while len(said) < _TOKEN + 4 and (more := connection.recv(_TOKEN + 4 - len(said))):
                    said += more
                if secrets.compare_digest(said[:_TOKEN], token):
                    found[int.from_bytes(said[_TOKEN:], "big")] = _probed(connection)
                else:
                    connection.close()
    return found


def _probed(connection: socket.socket) -> socket.socket:
    """A connection that fails if the other machine does not answer."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _end_process(message: str) -> None:
    if message:
        with suppress(OSError):
            os.write(2, f"{message}\n".encode())
    os._exit(1)  # the main thread may wait in a collective operation, which nothing interrupts
