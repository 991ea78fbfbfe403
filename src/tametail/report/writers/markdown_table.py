"""Markdown's tables, and numbers and text in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tametail.evaluation import Estimate
from tametail.report.study import narrative

NUMBER = "---:"


def percent(estimate: Estimate) -> str:
    """``71.2 (68.0–74.3)``."""
    interval = narrative.percent_interval(estimate)
    return narrative.percent(estimate.value) + (f" ({interval})" if interval else "")


def score(estimate: Estimate) -> str:
    """``0.71 (0.68–0.74)``."""
    interval = narrative.score_interval(estimate)
    return narrative.score(estimate.value) + (f" ({interval})" if interval else "")


def table(header: Sequence[str], alignment: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, alignment, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(text: str) -> str:
    """Text that Markdown and the HTML in it leave as it is, on one line."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)
