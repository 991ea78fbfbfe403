"""Formatting of names in messages."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 120


def sample_of(items: Sequence[object], most: int = 3) -> str:
    """The first few items for a message; long ones are shortened, unprintable ones escaped."""
    return ", ".join(quoted(item) for item in items[:most]) + (", ..." if len(items) > most else "")


def quoted(item: object) -> str:
    """One item for a message, shortened and escaped."""
    text = str(item)
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
    return short if short.isprintable() else ascii(short)
