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


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 image``, ``2 images``; ``many`` is by default ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def align_columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Rows of a table as lines with columns of equal width; ``right`` aligns all but the first to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [
        [
            cell.rjust(width) if right and at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return ["  ".join(cells).rstrip() for cells in padded]
