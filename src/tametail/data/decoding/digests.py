"""Digests of the content of files, cached for files that have not changed.

The cache key is a digest of path, size, times and inode: the cache reveals no file name, and a file that differs in any
of them is read again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path

UNREADABLE = "unreadable"


def content_digests(
    root: Path,
    images: Sequence[str],
    pool: Executor,
    memory: Path,
    *,
    window: int = 4096,
    settled: float = 2.0,
) -> tuple[str, ...]:
    """BLAKE2b digest (32 hex digits) of the content of each file, or ``"unreadable"``; files are read in pieces.

    Args:
        root: folder that the N ``images`` are relative to.
        pool: threads for reading.
        memory: database of known digests; if it cannot be used, all files are read.
        window: files at a time, which bounds the memory.
        settled: age in seconds below which a file is read again, as it may change without a change of its time stamps.
    """
    digests: list[str] = []
    for start in range(0, len(images), window):
        paths = [root / image for image in images[start : start + window]]
        states = [_state(path, settled) for path in paths]
        known = _recall(memory, states)
        unknown = [row for row, state in enumerate(states) if state not in known]
        fresh = dict(zip(unknown, pool.map(_digest, [paths[row] for row in unknown]), strict=True))
        digests += [fresh[row] if row in fresh else known[state] for row, state in enumerate(states)]
        # Only if the state is the same after reading does it belong to the content that was read.
        unchanged = [row for row in unknown if states[row] and states[row] == _state(paths[row], settled)]
        _remember(memory, ((states[row], fresh[row]) for row in unchanged))
    return tuple(digests)


def _state(path: Path, settled: float) -> bytes:
    """Digest of what changes with the file; empty if a change could go undetected."""
    try:
        status = os.stat(path)
    except OSError:
        return b""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < settled * 1e9:
        return b""
    facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    return hashlib.blake2b(repr((os.path.abspath(path), *facts)).encode(), digest_size=16).digest()


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return UNREADABLE


def _recall(memory: Path, states: Iterable[bytes]) -> dict[bytes, str]:
    if not memory.is_file():
        return {}
    found = {}
    try:
        with closing(sqlite3.connect(memory)) as database:
            for state in filter(None, states):
                row = database.execute("SELECT digest FROM known WHERE state = ?", (state,)).fetchone()
                if row:
                    found[state] = bytes(row[0]).hex()
    except (sqlite3.Error, TypeError):
        return {}
    return found


def _remember(memory: Path, pairs: Iterable[tuple[bytes, str]]) -> None:
    rows = [(state, bytes.fromhex(digest)) for state, digest in pairs if digest != UNREADABLE]
    if not rows:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(memory)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS known (state BLOB PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID"
            )
            database.executemany("INSERT OR REPLACE INTO known VALUES (?, ?)", rows)
    except (sqlite3.Error, OSError):
        return  # the database only saves time
