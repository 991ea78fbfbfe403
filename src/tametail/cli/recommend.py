"""The command that says what to use on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tametail.cli.options import (
    Assignments,
    Backbone,
    BatchSize,
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
    MultiLabel,
    Root,
    Seeds,
    SplitCol,
    Weights,
    reading,
    recipe_fields,
)
from tametail.cli.run_command import Debug, Quiet
from tametail.cli.run_command import run as run_command
from tametail.core.console import Console

KEPT = "Every finished training is kept; repeat the command to go on."


def recommend(
    data: Data,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder; default runs/recommend-NAME OF DATA.")
    ] = None,
    folds: Folds = 5,
    seeds: Seeds = 1,
    seed: Annotated[int, typer.Option(help="Seed of the splits.")] = 0,
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
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what to use on this data, and how sure that is: minutes, on features of a frozen backbone.

    Tries plain cross-entropy, what can follow it without a training, other losses and a second training of the head. All
    that is chosen is chosen on inner folds; the test set stays held out. Repeat the command to go on where it stopped.
    """

    def work(console: Console) -> None:
        from tametail.recommend.recommend import recommend as run
        from tametail.recommend.writers import console_text

        recommendation = run(
            data,
            out=out,
            folds=folds,
            seeds=seeds,
            seed=seed,
            device=device,
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
            options=repeated(
                data,
                [
                    ("--folds", folds if folds != 5 else None),
                    ("--seeds", seeds if seeds != 1 else None),
                    ("--seed", seed or None),
                    ("--image-col", image_col),
                    ("--label-col", label_col),
                    ("--group-col", group_col),
                    ("--split-col", split_col),
                    ("--image-root", image_root),
                    ("--label-cols", label_cols),
                    ("--root", root),
                    ("--group-duplicates", group_duplicates),
                    ("--backbone", backbone),
                    ("--weights", weights),
                    ("--image-size", image_size),
                    ("--epochs", epochs),
                    ("--batch-size", batch_size),
                    ("--lr", lr),
                    *(("--set", assignment) for assignment in assignments or ()),
                    ("--device", device if device != "auto" else None),
                ],
            ),
            console=console,
        )
        typer.echo(console_text(recommendation.content))
        typer.echo(f"Report: {recommendation.report}")

    run_command(work, quiet=quiet, debug=debug, interrupted=KEPT)


def repeated(data: str, options: list[tuple[str, object]]) -> list[str]:
    """DATA and the options given, as the next command line has them; None and False are not given, True is a flag."""
    given = [(name, value) for name, value in options if value is not None and value is not False]
    return [
        data,
        *(part for name, value in given for part in ([name] if value is True else [name, str(value)])),
    ]
