"""Tables and text in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBER = "---:"  # alignment of a column of numbers


def markdown_table(header: Sequence[str], alignment: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, alignment, *rows))


def markdown_text(text: str) -> str:
    """The text on one line, escaped so that Markdown and the HTML in it show it as it is."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)
