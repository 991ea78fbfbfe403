"""The command that ranks methods over several data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tametail.cli.run_command import Debug, Quiet, run
from tametail.core.console import Console
from tametail.core.errors import UsageError


def rank(
    studies: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more studies, or folders of evaluations: the data sets.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the ranking.")] = Path("ranks"),
    bars: Annotated[
        str, typer.Option(help="What the bars of the plot are by: nemenyi or wilcoxon (with Holm).")
    ] = "nemenyi",
    figures: Annotated[
        str | None, typer.Option(help="The plot for print as well: pdf,svg,png.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rank the methods of several studies over their data sets: mean ranks, Friedman, critical-difference plot."""

    def work(console: Console) -> None:
        from tametail.report.figures.files import formats_of
        from tametail.report.ranks.narrative import answer, left_out
        from tametail.report.ranks.page import BARS, write_ranks

        chosen = next((known for known in BARS if known == bars), None)
        if chosen is None:
            raise UsageError(f"expected --bars as one of {', '.join(BARS)}, got {bars}")
        formats = () if figures is None else formats_of(figures)
        compared, page = write_ranks(studies, out, bars=chosen, figures=formats)
        for warning in (*compared.warnings, *(f"left out, {line}" for line in left_out(compared))):
            console.warn(warning)
        for method, mean in zip(compared.ranks.methods, compared.ranks.mean_ranks, strict=True):
            typer.echo(f"{mean:5.2f}  {method}")
        typer.echo(" ".join(answer(compared)))
        typer.echo(f"Report: {page}")

    run(work, quiet=quiet, debug=debug)
