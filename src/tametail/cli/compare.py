"""The commands that train: compare, and resume where it was interrupted."""

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
    StudyFolder,
    Track,
    Watch,
    Weights,
    Workers,
    listed,
    numbers,
    reading,
    recipe_fields,
)
from tametail.cli.run_command import Debug, Quiet
from tametail.cli.run_command import run as run_command
from tametail.core.console import Console
from tametail.core.errors import TametailError

if TYPE_CHECKING:
    from tametail.study.study import Study

KEPT = "Everything so far is kept; repeat the command, or use tametail resume, to go on."


def compare(
    data: Data,
    losses: Annotated[
        str | None,
        typer.Option(
            help="Losses, by commas; parameters in brackets: alpa\\[variant=code]; with strategies: ce+la, ldam+drw; your "
            "own: package.module:Class. Default: alpa,asl,focal,ce,ce+la,balanced_softmax,ldam.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the study; default runs/NAME OF DATA.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="head, quick, modern, paper, or a YAML file.")] = "head",
    folds: Folds = 5,
    only_folds: Annotated[
        str | None, typer.Option(help="Hold out only these folds, from 0: 0,2.", show_default=False)
    ] = None,
    seeds: Seeds = 1,
    seed: Annotated[int, typer.Option(help="Seed of the splits.")] = 0,
    tuned: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a finished search on the same data: its best method is compared as well.",
            show_default=False,
        ),
    ] = None,
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
    validate_epochs: Watch = True,
    track: Track = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train every loss on every fold, and report out-of-fold results; the test set stays held out.

    Repeat the command to go on where it stopped.
    """

    def work(console: Console) -> None:
        from tametail.study.study import compare as run
        from tametail.training.hardware import Hardware

        study = run(
            data,
            losses,
            out=out,
            recipe=recipe,
            folds=folds,
            only_folds=None if only_folds is None else numbers("--only-folds", only_folds),
            seeds=seeds,
            seed=seed,
            hardware=Hardware(device, micro_batch, compile_, workers, validate_epochs),
            track=listed(track),
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
            tuned=tuned,
            console=console,
        )
        show_study(study)

    run_command(work, quiet=quiet, debug=debug, interrupted=KEPT)


def resume(
    study: StudyFolder,
    image_root: ImageRoot = None,
    device: Device = "auto",
    micro_batch: MicroBatch = None,
    workers: Workers = 0,
    compile_: Compile = False,
    validate_epochs: Watch = True,
    track: Track = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with a study that was interrupted, with the settings it was begun with."""

    def work(console: Console) -> None:
        from tametail.study.study import resume as run
        from tametail.training.hardware import Hardware

        hardware = Hardware(device, micro_batch, compile_, workers, validate_epochs)
        show_study(run(study, image_root=image_root, hardware=hardware, track=listed(track), console=console))

    run_command(work, quiet=quiet, debug=debug, interrupted=KEPT)


def show_study(study: Study) -> None:
    """Print a study's results, and where its report lies.

    Raises:
        TametailError: runs have failed.
    """
    from tametail.report import results_table

    if study.report.is_file():
        typer.echo(results_table(study.directory))
        typer.echo(f"Report: {study.report}")
    refuse_failures(study)


def refuse_failures(study: Study) -> None:
    """Have the command end in an error where runs have failed.

    Raises:
        TametailError: they have.
    """
    if study.failed:
        raise TametailError("these runs failed, and their losses have no result: " + "; ".join(study.failed))
