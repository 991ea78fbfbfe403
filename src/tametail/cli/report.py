"""tametail report: the report of a study, again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.options import WriteReportOptions


@command(
    WriteReportOptions,
    arguments=("study",),
    example="tametail report runs/skin --by sex --operating melanoma=0.95 --figures pdf",
)
def report(console: Console, /, study: str, **options: Any) -> None:
    """Write the report of a study again: an HTML page, tables as CSV, Markdown and LaTeX, and metrics.json.

    --images, --coverage, --predict-by, --by, --operating, --ordered and --class-order are remembered; an empty text (--by "") resets them.
    """
    from tametail.report import grades_used, unavailable, unfinished, write_report

    path = write_report(study, **options)
    for line in unfinished(Path(study)):
        console.warn(
            f"{line}; {'see partial.md' if options['partial'] else 'show its mean so far with --partial'}"
        )
    for line in unavailable():
        console.warn(line)
    for line in grades_used(Path(study)):
        console.say(line)
    console.say("Report:")
    typer.echo(path)
