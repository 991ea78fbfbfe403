"""tametail share: a copy of a study without paths, names and ids."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.options import ShareOptions


@command(
    ShareOptions,
    arguments=("study", "copy"),
    example="tametail share runs/skin skin-results\ntametail share runs/skin skin-results --name skin --with-thumbnails",
)
def share(console: Console, /, study: str, copy: str, **options: Any) -> None:
    """Write a copy of a study for others: its results, without paths, file names, patient codes, weights and logs.

    tametail report and tametail rank read the copy. shared.md in it lists what was left out and what remains.
    """
    from tametail.study.share import share as run

    made = run(study, copy, console=console, **options)
    typer.echo(made.directory)
