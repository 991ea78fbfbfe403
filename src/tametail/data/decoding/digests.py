"""Digests of files' content, remembered for files that have not changed since.

What is remembered is kept under a digest of path, size, times and inode together: the cache tells no file name to
whoever reads it, and a file that differs in any of them is read again.
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
_WINDOW = 4096  # files at a time: bounds the memory
_SETTLED = 2_000_000_000  # ns: a file younger than a file system's clock tick may change without a sign of it


def content_digests(root: Path, images: Sequence[str], pool: Executor, memory: Path) -> tuple[str, ...]:
    """BLAKE2b digest, 32 hex digits, of each file's content, or ``"unreadable"``; no file is held in memory whole.

    Args:
        root: what the N ``images`` are relative to.
        pool: threads that read.
        memory: database of digests known from before; where it cannot be used, all files are read.
    """
    digests: list[str] = []
    for start in range(0, len(images), _WINDOW):
        paths = [root / image for image in images[start : start + _WINDOW]]
        states = list(map(_state, paths))
        known = _recall(memory, states)
        unknown = [row for row, state in enumerate(states) if state not in known]
        fresh = dict(zip(unknown, pool.map(_digest, [paths[row] for row in unknown]), strict=True))
        digests += [fresh[row] if row in fresh else known[state] for row, state in enumerate(states)]
        # A state that is the same after reading was the state of what was read.
        _remember(
            memory,
            (
                (state, fresh[row])
                for row in unknown
                if (state := states[row]) and state == _state(paths[row])
            ),
        )
    return tuple(digests)


def _state(path: Path) -> bytes:
    """Differs whenever the file does; empty where that is not certain."""
    try:
        status = os.stat(path)
    except OSError:
        return b""
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED:
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
        return  # it only saves time
