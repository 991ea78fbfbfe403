"""tametail pack: a data set in a few large files."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.options import PackOptions


@command(PackOptions, arguments=("data", "out"), example="tametail pack skin/ skin-packed/")
def pack(console: Console, /, **options: Any) -> None:
    """Write images, labels, groups and split into a few large files, which every command reads as DATA, also from a URL."""
    from tametail.data.packed import pack as pack_data

    pack_data(console=console, **options)
    typer.echo(options["out"])
