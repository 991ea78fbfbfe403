"""Which process and machine this is, and whether another process still runs."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path


def host_name() -> str:
    """The name of this machine in the network."""
    return socket.gethostname()


@cache
def machine() -> str:
    """Digest of what process numbers are unique within: the machine since it was started, and the container."""
    parts = [host_name()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()


def process_start(process: int) -> int | None:
    """When a process began, in ticks since the machine was started; None if it has ended or the system does not say."""
    state = _state(process)
    return int(state[19]) if state else None


def is_running(process: int, start: int | None = None) -> bool:
    """Whether a process of this machine has not ended.

    Args:
        start: what `process_start` said of it, so that a later process of the same number is not mistaken for it.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # of another user
    state = _state(process)
    if not state:
        return True
    return state[0] not in {b"Z", b"X"} and start in {None, int(state[19])}


def _state(process: int) -> list[bytes]:
    """The fields of a process in /proc after its name, which may contain spaces; empty where there are none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []
    return fields if len(fields) > 19 else []
