"""tametail unlock: remove the locks of killed processes."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.options import UnlockOptions


@command(
    UnlockOptions,
    arguments=("folder",),
    example="tametail unlock runs/skin",
)
def unlock(console: Console, /, folder: str, **options: Any) -> None:
    """Show who works in the folder of a study, search or recommendation, and remove what killed processes left.

    A lock stays if its process runs on this machine, or gave a sign of life in the last 5 minutes.
    """
    from tametail.storage.unlock import unlock as run

    for path in run(folder, console=console, **options):
        typer.echo(path)
