"""tametail gradients: how losses push a logit."""

from __future__ import annotations

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.options import GradientOptions


@command(GradientOptions, example="tametail gradients --losses alpa,asl[clip=0],ce -o gradients.svg")
def gradients(console: Console, /, out: str | None, losses: str | None, over: str) -> None:
    """Draw the gradients of losses with respect to the logits: the paper's Figure 1, or any losses.

    Figure 1 uses the parameters of its caption: ALPA with γ- 4, ASL with m 0.01 and γ- 0.01, CE, focal with γ 0.5.
    """
    from tametail.reproduce.gradient_report import write_gradients

    typer.echo(write_gradients(out or ("gradients.svg" if losses else "figure1.svg"), losses, over=over))
