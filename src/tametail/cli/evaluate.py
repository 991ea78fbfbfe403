"""tametail evaluate: predictions made elsewhere, or a study's models on other images."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import command
from tametail.core.console import Console
from tametail.core.options import EvaluateOptions


@command(
    EvaluateOptions,
    arguments=("predictions",),
    example="tametail evaluate model_a.csv model_b.csv -o evaluation\n"
    "tametail evaluate runs/skin --data other_hospital/ --map nevus=nv",
)
def evaluate(console: Console, /, **options: Any) -> None:
    """Evaluate predictions of other models, or a study's models on another data set, with the same report."""
    from tametail.external.evaluate import evaluate as run
    from tametail.report import results_table

    evaluation = run(console=console, **options)
    typer.echo(results_table(evaluation.directory))
    typer.echo(f"Report: {evaluation.report}")
