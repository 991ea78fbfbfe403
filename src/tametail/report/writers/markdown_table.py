"""Tables and text in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tametail.report.table import Cell, Table

NUMBER = "---:"  # alignment of a column of numbers


def markdown_table(table: Table) -> str:
    """A table; the best cells are bold."""
    header = [markdown_text(column.name) for column in table.columns]
    alignment = ["---" if column.text else NUMBER for column in table.columns]
    rows = [[_cell(cell) for cell in row.cells] for row in (*table.rows, *table.totals)]
    return markdown_lines(header, alignment, rows)


def markdown_lines(header: Sequence[str], alignment: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, alignment, *rows))


def _cell(cell: Cell) -> str:
    text = markdown_text(cell.plain)
    return f"**{text}**" if cell.best else text


def markdown_text(text: str) -> str:
    """The text on one line, escaped so that Markdown and the HTML in it show it as it is."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)
