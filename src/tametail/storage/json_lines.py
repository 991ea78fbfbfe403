"""Records that only grow: files of one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tametail.core.atomic import write_atomically
from tametail.core.json_file import parse_json, read_limited
from tametail.core.regular_file import regular
from tametail.storage.locks import LOCK, hold

_WAIT = 30  # seconds for another process that writes a line


def read_lines(path: Path, *, skip_damaged: bool = False) -> list[dict[str, Any]]:
    """The objects of a record, oldest first; none if it is absent.

    Args:
        skip_damaged: leave out lines that are no JSON object.

    Raises:
        OSError, ValueError: it cannot be read, or a line is no JSON object.
    """
    try:
        text = read_limited(path).decode("utf-8", errors="replace" if skip_damaged else "strict")
    except FileNotFoundError:
        return []
    entries = []
    for line in filter(str.strip, text.splitlines()):
        try:
            entries.append(_object(line))
        except ValueError:
            if not skip_damaged:
                raise
    return entries


def _object(line: str) -> dict[str, Any]:
    entry = parse_json(line)
    if not isinstance(entry, dict):
        raise ValueError(f"expected a JSON object, found {line[:40]}")
    return entry


def append_line(path: Path, facts: Mapping[str, Any], *, alone: bool = False) -> None:
    """Add one object with the time in UTC; several processes may do so at once.

    Args:
        alone: a lock that is held keeps other processes from writing this record.

    Raises:
        OSError: it cannot be written; the previous content is kept.
        TametailError: another process holds its lock.
    """
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with nullcontext() if alone else hold(path.with_name(f".{path.name}{LOCK}"), wait=_WAIT):
        before = regular(path).read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        write_atomically(path, before + json.dumps(entry, ensure_ascii=False).encode() + b"\n")
