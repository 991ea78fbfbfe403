"""A recommendation as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from tametail.core.console import printable
from tametail.report.study import narrative

_WIDTH = 100


def shown(content: Mapping[str, Any]) -> str:
    """The candidates as a table, the answer below it, and the next command.

    Args:
        content: of recommend.json.
    """
    header = (
        "",
        "Candidate",
        "Step",
        "Balanced accuracy, %",
        "Accuracy, %",
        "Beside ce, points",
        "SE below best",
        "First, %",
    )
    lines = [header, *(_line(content, one) for one in content["candidates"])]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(
        [
            f"Out of fold, with 95 % intervals; n = {content['images']:,}. * to use: the simplest "
            "within one standard",
            "error (SE) of the best. = not significantly different from it by test. Test set: held out.",
            *table,
            "",
            *([narrative.SYNTHETIC] if content["synthetic"] else []),
            *(line for sentence in content["answer"] for line in textwrap.wrap(printable(sentence), _WIDTH)),
            "",
            "Next:",
            f"  {printable(content['next_command'])}",
        ]
    )


def _line(content: Mapping[str, Any], one: Mapping[str, Any]) -> tuple[str, ...]:
    mark = (
        "*" if one["name"] == content["use"] else "=" if one["not_significantly_different_from_best"] else ""
    )
    beside = one["against_plain"]
    return (
        mark,
        one["name"],
        one["step"],
        _percent(one["balanced_accuracy"]),
        _percent(one["accuracy"], interval=False),
        _percent(beside["difference"], signed=True) if beside else "",
        "" if one["against_best"] is None else f"{one['standard_errors_below_best']:.2f}",
        f"{100 * one['comes_first']:.1f}",
    )


def _percent(estimate: Mapping[str, float | None], *, signed: bool = False, interval: bool = True) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "–"
    form = "+.1f" if signed else ".1f"
    if low is None or high is None or not interval:
        return f"{100 * value:{form}}"
    between = " to " if signed else "–"
    return f"{100 * value:{form}} ({100 * low:{form}}{between}{100 * high:{form}})"
