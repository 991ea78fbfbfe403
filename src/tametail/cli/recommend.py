"""tametail recommend: which method to use on a data set."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import RESUMABLE, command
from tametail.core.console import Console
from tametail.core.options import RecommendOptions


@command(
    RecommendOptions,
    arguments=("data",),
    example="tametail recommend skin/ --weights offline",
    interrupted=RESUMABLE,
)
def recommend(console: Console, /, **options: Any) -> None:
    """Recommend a method for this data, with an estimate of its uncertainty, in minutes on frozen features.

    Tries cross-entropy, adjustments after training, other losses and re-training of the head. Everything is selected on
    inner folds; the test set stays held out. Repeat the command to continue after an interruption.
    """
    from tametail.recommend import recommend as room
    from tametail.recommend.writers import console_text

    recommendation = room.recommend(console=console, **options)
    typer.echo(console_text(recommendation.content))
    typer.echo(f"Report: {recommendation.report}")
