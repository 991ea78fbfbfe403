"""tametail work and status: units of a study, done by any number of processes or jobs."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import RESUMABLE, command, print_table
from tametail.core.console import Console
from tametail.core.interruption import treat_as_sigterm
from tametail.core.options import StatusOptions, WorkOptions


@command(
    WorkOptions,
    arguments=("study",),
    example="tametail work runs/skin --unit 3",
    interrupted=RESUMABLE,
)
def work(console: Console, /, **options: Any) -> None:
    """Train units of a study that compare --engine plan has planned; any scheduler can run this command as its job.

    Units that are done are skipped, and each is done once, however many processes are given it. Repeat compare for the report.
    """
    from tametail.study import worker

    treat_as_sigterm("SIGUSR1")  # which schedulers send before a time limit
    left = worker.work(console=console, **options)
    typer.echo(f"{left} units of the study are not done." if left else "All units of the study are done.")


@command(StatusOptions, arguments=("study",), example="tametail status runs/skin")
def status(console: Console, /, **options: Any) -> None:
    """Show which units of a study are done, run, wait or failed, and how far they are."""
    from tametail.study import status

    print_table(status.status(**options))
