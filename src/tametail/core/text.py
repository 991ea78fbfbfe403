"""Pieces of the messages about a data set."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 120


def sample_of(items: Sequence[object], most: int = 3) -> str:
    """The first few of many, for a message; what is long or cannot be printed is shortened or escaped."""
    return ", ".join(quoted(item) for item in items[:most]) + (", ..." if len(items) > most else "")


def quoted(item: object) -> str:
    """One item for a message."""
    text = str(item)
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
    return short if short.isprintable() else ascii(short)
