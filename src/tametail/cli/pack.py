"""tametail pack: a data set in a few large files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.options import PackOptions


@command(PackOptions, arguments=("data", "out"), example="tametail pack skin/ skin-packed/")
def pack(console: Console, /, data: str, out: str, shard_mb: int, **options: Any) -> None:
    """Write images, labels, groups and split into a few large files, which every command reads as DATA, also from a URL."""
    from tametail.core.option import pick
    from tametail.core.options import TableOptions
    from tametail.data import read_images, say_reading
    from tametail.data.packed import pack as write_shards

    if shard_mb < 1:
        raise UsageError(f"expected --shard-mb of at least 1, got {shard_mb}")
    table = read_images(data, **pick(TableOptions, options))
    say_reading(table, console)
    with console.track("Images", len(table)) as advance:
        files = write_shards(table, Path(out), shard_bytes=shard_mb * 10**6, advance=advance)
    total = sum(file.stat().st_size for file in files)
    console.say(f"{len(table):,} images in {len(files):,} files, {total / 1e9:.3g} GB")
    typer.echo(out)
