"""tametail search: the parameters of a method."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import RESUMABLE, command
from tametail.core.console import Console
from tametail.core.options import LossOptions, SearchOptions


@command(
    LossOptions,
    SearchOptions,
    arguments=("data",),
    example="tametail search skin/ --loss alpa --trials 50 --weights offline",
    interrupted=RESUMABLE,
)
def search(console: Console, /, **options: Any) -> None:
    """Search a method's parameters by nested cross-validation, and test whether the gain over the defaults is real.

    Repeat the command to continue after an interruption; start it several times at once to share the work. The test set
    stays held out.
    """
    from tametail.report.search.narrative import answer
    from tametail.search import search as room

    found = room.search(console=console, **options)
    for line in answer(found.settings):
        typer.echo(line)
    typer.echo(f"Best: {found.best}")
    typer.echo(f"Report: {found.report}")
