"""tametail rank: methods over several data sets."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.options import RankOptions


@command(
    RankOptions, arguments=("studies",), example="tametail rank runs/skin runs/blood runs/retina -o ranks"
)
def rank(console: Console, /, **options: Any) -> None:
    """Rank the methods of several studies across data sets: mean ranks, Friedman test, critical-difference plot."""
    from tametail.report.ranks.rank import rank as run

    ranking = run(**options)
    for warning in ranking.warnings:
        console.warn(warning)
    for method, mean in ranking.mean_ranks.items():
        typer.echo(f"{mean:5.2f}  {method}")
    typer.echo(" ".join(ranking.answer))
    typer.echo(f"Report: {ranking.report}")
