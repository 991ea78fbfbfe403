"""tametail export and train: a model in a folder that can be handed over."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import RESUMABLE, command
from tametail.core.console import Console
from tametail.core.options import ExportOptions, TrainOptions


@command(
    ExportOptions,
    arguments=("study", "model"),
    example="tametail export runs/skin model/\ntametail export runs/skin model/ --method ce+la --refit",
    interrupted=RESUMABLE,
)
def export(console: Console, /, **options: Any) -> None:
    """Export the model of a study: one file with its description, a model card, an example of use and checksums.

    By default it is the mean of the fold models of the best method. tametail predict reads it.
    """
    from tametail.deployment.export import export as run

    run(console=console, **options)
    _end(options["model"], console)


@command(
    TrainOptions,
    arguments=("data",),
    example="tametail train skin/ --method ce+la -o model/",
    interrupted=RESUMABLE,
)
def train(console: Console, /, **options: Any) -> None:
    """Cross-validate a method, train it on all training images, and export that model.

    Without --method the default methods are compared, and the best is taken.
    """
    from tametail.deployment.train import train as run

    run(console=console, **options)
    _end(options["out"], console)


def _end(model: Any, console: Console) -> None:
    console.say(
        f"Use it with tametail predict {model} IMAGES -o predictions.csv; read {model}/MODEL_CARD.md before."
    )
    typer.echo(model)
