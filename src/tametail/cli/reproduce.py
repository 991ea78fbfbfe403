"""The command that runs the paper's experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tametail.cli.compare import refuse_failures
from tametail.cli.options import (
    Assignments,
    Backbone,
    BatchSize,
    Compile,
    Device,
    Epochs,
    Folds,
    ImageSize,
    LearningRate,
    MicroBatch,
    Seeds,
    Weights,
    Workers,
    recipe_fields,
)
from tametail.cli.run_command import Debug, Quiet, run
from tametail.core.console import Console
from tametail.core.errors import UsageError

_FIGURE = "figure1"
_OF_THE_FIGURE = {"experiment", "out", "quiet", "debug"}


def reproduce(
    context: typer.Context,
    experiment: Annotated[
        str, typer.Argument(help="table2, table3, table4, table5 or figure1.", show_default=False)
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            help="Folder of the set as downloaded (APTOS 2019, HAM10000, bone marrow), or any set of its classes: a folder "
            "with labels.csv, class folders, a table.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the study; default runs/reproduce-EXPERIMENT. Of figure1 the file.", show_default=False),
    ] = None,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Leave the test set closed; compare out-of-fold results.")
    ] = False,
    variant: Annotated[str, typer.Option(help="ALPA as paper (Eq. 11), code (as released) or pade.")] = "paper",
    rivals: Annotated[
        str, typer.Option(help="Settings of ASL and focal loss: figure1 (the only ones that the paper tells) or defaults.")
    ] = "figure1",
    recipe: Annotated[str, typer.Option(help="paper, another recipe, or a YAML file.")] = "paper",
    folds: Folds = 5,
    seeds: Seeds = 1,
    backbone: Backbone = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    assignments: Assignments = None,
    device: Device = "auto",
    micro_batch: MicroBatch = None,
    workers: Workers = 0,
    compile_: Compile = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Run one of the paper's experiments, and set what is measured beside what is published.

    The tables are trained by the paper's protocol, as far as it is told, and evaluated on the test set, as the paper does:
    the test set is opened, and the opening recorded. With --sealed it stays closed.
    """

    def work(console: Console) -> None:
        if experiment == _FIGURE:
            _draw(out, context)
            return
        from tametail.reproduce import reproduce as run_experiment
        from tametail.training.hardware import Hardware

        done = run_experiment(
            experiment,
            root,
            out=out,
            sealed=sealed,
            variant=variant,  # type: ignore[arg-type]  # checked there
            rivals=rivals,  # type: ignore[arg-type]
            recipe=recipe,
            folds=folds,
            seeds=seeds,
            hardware=Hardware(device, micro_batch, compile_, workers),
            fields=recipe_fields(backbone, weights, image_size, epochs, batch_size, lr),
            assignments=assignments or (),
            console=console,
        )
        typer.echo(done.text)
        typer.echo(f"\nTable: {done.markdown}\nReport: {done.study.report}")
        refuse_failures(done.study)

    run(work, quiet=quiet, debug=debug, interrupted="Everything so far is kept; repeat the command to go on.")


def _draw(out: Path | None, context: typer.Context) -> None:
    from tametail.reproduce.gradient_report import write_gradients
    from tametail.reproduce.notes import notes_on

    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in _OF_THE_FIGURE
        and parameter.name is not None
        and (source := context.get_parameter_source(parameter.name)) is not None
        and source.name == "COMMANDLINE"
    ]
    if given:
        raise UsageError(
            f"{_FIGURE} is drawn from formulas, without images or training: expected -o alone, got {', '.join(given)}"
        )
    typer.echo(write_gradients(out or f"{_FIGURE}.svg"))
    for note in notes_on(_FIGURE):
        typer.echo(f"  - {note.text}")
