"""The text of delimited tables: which sign separates the fields, which names the columns have, and which rows are blank."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import PurePath

BLANKS = " "
"""Stands for any run of blanks between the fields."""
_SAMPLE = 200  # rows that a separator is chosen by


def find_separator(text: str, path: PurePath) -> str:
    """The separator that gives most rows as many fields as the first one: comma, semicolon, tab or, in .txt, blanks.

    A sign counts only if it is in the first row; of several equally good ones the one with the most fields is used.
    """
    lines = _first_lines(text)
    if not lines:
        return ","
    signs = [sign for sign in ",;\t" if sign in lines[0]]
    if not signs and path.suffix.lower() == ".txt" and len(lines[0].split()) > 1:
        return BLANKS

    def fit(sign: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in fields("\n".join(lines), sign)]
        except csv.Error:  # reported when the whole table is read
            return 0, 0
        return sum(width == widths[0] for width in widths) / len(widths), widths[0]

    return max(signs, key=fit, default=",")


def fields(text: str, separator: str) -> Iterator[list[str]]:
    """The fields of each row that is not an empty line.

    Raises:
        csv.Error: a field is not closed, or too long.
    """
    if separator == BLANKS:
        return (row for line in text.splitlines() if (row := line.split()))
    return (row for row in csv.reader(io.StringIO(text), delimiter=separator) if row)


def _first_lines(text: str) -> list[str]:
    lines = []
    for line in io.StringIO(text):
        if line.strip():
            lines.append(line.rstrip("\r\n"))
        if len(lines) == _SAMPLE:
            break
    return lines
