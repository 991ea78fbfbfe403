"""The command that searches a method's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tametail.cli.options import (
    Assignments,
    Backbone,
    BatchSize,
    Compile,
    Data,
    Device,
    Download,
    Epochs,
    Folds,
    GroupCol,
    GroupDuplicates,
    ImageCol,
    ImageRoot,
    ImageSize,
    LabelCol,
    LabelCols,
    LearningRate,
    MicroBatch,
    MultiLabel,
    Root,
    Seeds,
    SplitCol,
    Weights,
    Workers,
    reading,
    recipe_fields,
)
from tametail.cli.run_command import Debug, Quiet
from tametail.cli.run_command import run as run_command
from tametail.core.console import Console

if TYPE_CHECKING:
    from tametail.search.search import Search


def search(
    data: Data,
    loss: Annotated[
        str,
        typer.Option(
            help="The method to tune: alpa, alpa\\[variant=pade], focal+la. What its text gives is fixed."
        ),
    ] = "alpa",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder of the search; default runs/search-NAME OF DATA-LOSS."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials of each search.")] = 50,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="What to search, in place of or beside the loss's default: gamma_neg=0:5, lr=1e-4:1e-2:log, "
            "order=1/1|2/2. Any parameter of the loss, lr and weight_decay.",
            show_default=False,
        ),
    ] = None,
    sampler: Annotated[str, typer.Option(help="random or tpe.")] = "random",
    halving: Annotated[
        bool,
        typer.Option(
            "--halving",
            help="Give up the worse half of a batch of trials after the first inner fold, and so on.",
        ),
    ] = False,
    metric: Annotated[
        str, typer.Option(help="balanced_accuracy, macro_f1, accuracy, mcc, or kappa (classes are grades).")
    ] = "balanced_accuracy",
    recipe: Annotated[str, typer.Option(help="head, quick, modern, paper, or a YAML file.")] = "head",
    folds: Folds = 5,
    seeds: Seeds = 1,
    seed: Annotated[int, typer.Option(help="Seed of the splits and of what is drawn.")] = 0,
    image_col: ImageCol = None,
    label_col: LabelCol = None,
    group_col: GroupCol = None,
    split_col: SplitCol = None,
    image_root: ImageRoot = None,
    label_cols: LabelCols = None,
    multi_label: MultiLabel = False,
    root: Root = None,
    download: Download = False,
    group_duplicates: GroupDuplicates = False,
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
) -> None:
    """Search a loss's parameters by nested cross-validation, and say whether the gain over its defaults is real.

    Repeat the command to go on where it stopped; start it several times at once to share the work. The test set stays held out.
    """

    def work(console: Console) -> None:
        from tametail.core.errors import UsageError
        from tametail.search.queue import SAMPLERS
        from tametail.search.search import search as run
        from tametail.training.hardware import Hardware

        if sampler not in SAMPLERS:
            raise UsageError(f"expected --sampler as one of {', '.join(SAMPLERS)}, got {sampler!r}")
        found = run(
            data,
            loss,
            out=out,
            trials=trials,
            space=space or (),
            sampler=next(one for one in SAMPLERS if one == sampler),
            halving=halving,
            metric=metric,
            recipe=recipe,
            folds=folds,
            seeds=seeds,
            seed=seed,
            hardware=Hardware(device, micro_batch, compile_, workers, validate_epochs=False),
            columns=reading(
                image_col,
                label_col,
                group_col,
                split_col,
                image_root,
                label_cols,
                multi_label,
                root,
                download,
            ),
            group_duplicates=group_duplicates,
            fields=recipe_fields(backbone, weights, image_size, epochs, batch_size, lr),
            assignments=assignments or (),
            console=console,
        )
        _show(found)

    run_command(
        work,
        quiet=quiet,
        debug=debug,
        interrupted="Every finished training is kept; repeat the command to go on.",
    )


def _show(found: Search) -> None:
    """Print what was found, and where the report lies."""
    from tametail.report.search.narrative import answer

    for line in answer(found.settings):
        typer.echo(line)
    typer.echo(f"Best: {found.best}")
    typer.echo(f"Report: {found.report}")
