"""The command line: one thin function per command. Heavy imports happen inside them, so that --help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tametail import __version__
from tametail.console import Console
from tametail.errors import TametailError, writing

try:
    import typer

    from tametail.cli_data import inspect, subsample
    from tametail.cli_losses import gradients, losses, strategies
    from tametail.cli_options import (
        TRAINING,
        Compile,
        Data,
        Device,
        Download,
        GroupCol,
        GroupDuplicates,
        ImageCol,
        ImageRoot,
        LabelCol,
        LabelCols,
        MicroBatch,
        MultiLabel,
        Root,
        SplitCol,
        Track,
        Watch,
        Workers,
        listed,
        numbers,
        option,
        reading,
    )
    from tametail.cli_recipe import recipe as recipe_commands
    from tametail.cli_reproduce import reproduce
    from tametail.cli_running import Debug, Quiet
    from tametail.cli_running import run as _run
except ModuleNotFoundError as missing:
    raise SystemExit(f"The command line needs {missing.name}: pip install 'tametail[train]'") from missing

if TYPE_CHECKING:
    from tametail.study import Study

app = typer.Typer(
    name="tametail",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare losses on your unbalanced medical images, honestly, and get a model to use.",
)

StudyFolder = Annotated[
    Path, typer.Argument(help="A study: the output folder of compare.", show_default=False)
]
_KEPT = "Everything so far is kept; repeat the command, or use tametail resume, to go on."


@app.command()
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
    folds: Annotated[int, typer.Option(help="k of the cross-validation.")] = 5,
    only_folds: Annotated[
        str | None, typer.Option(help="Hold out only these folds, from 0: 0,2.", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings per fold, each with its own seed.")] = 1,
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
    backbone: Annotated[str | None, option(TRAINING, "--backbone", text="Any timm model.")] = None,
    weights: Annotated[
        str | None, option(TRAINING, "--weights", text="auto (timm's hub), offline, none, or a file.")
    ] = None,
    image_size: Annotated[int | None, option(TRAINING, "--image-size", text="Pixels.")] = None,
    epochs: Annotated[int | None, option(TRAINING, "--epochs", text="Passes over the training part.")] = None,
    batch_size: Annotated[int | None, option(TRAINING, "--batch-size", text="Images per step.")] = None,
    lr: Annotated[float | None, option(TRAINING, "--lr", text="Peak learning rate.")] = None,
    assignments: Annotated[
        list[str] | None,
        option(TRAINING, "--set", text="Any field of the recipe: optimizer.weight_decay=0.1"),
    ] = None,
    device: Device = "auto",
    micro_batch: MicroBatch = None,
    workers: Workers = 0,
    compile_: Compile = False,
    watch: Watch = True,
    track: Track = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train every loss on every fold, and report out-of-fold results; the test part stays sealed.

    Repeat the command to go on where it stopped.
    """

    def work(console: Console) -> None:
        from tametail.study import compare as run
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
            hardware=Hardware(device, micro_batch, compile_, workers, watch),
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
            fields={
                "backbone": backbone,
                "weights": weights,
                "image_size": image_size,
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
            },
            assignments=assignments or (),
            console=console,
        )
        _show(study)

    _run(
        work,
        quiet=quiet,
        debug=debug,
        interrupted=_KEPT,
    )


@app.command()
def resume(
    study: StudyFolder,
    image_root: ImageRoot = None,
    device: Device = "auto",
    micro_batch: MicroBatch = None,
    workers: Workers = 0,
    compile_: Compile = False,
    watch: Watch = True,
    track: Track = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with a study that was interrupted, with the settings it was begun with."""

    def work(console: Console) -> None:
        from tametail.study import resume as run
        from tametail.training.hardware import Hardware

        hardware = Hardware(device, micro_batch, compile_, workers, watch)
        _show(run(study, image_root=image_root, hardware=hardware, track=listed(track), console=console))

    _run(work, quiet=quiet, debug=debug, interrupted=_KEPT)


@app.command("open")
def open_(
    study: StudyFolder,
    image_root: ImageRoot = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Evaluate a study on its sealed test part. Every opening is recorded and printed in the report."""

    def work(console: Console) -> None:
        from tametail.study import open_test_part

        _show(open_test_part(study, image_root=image_root, device=device, console=console))

    _run(work, quiet=quiet, debug=debug, interrupted="The opening is recorded; repeat the command to go on.")


@app.command()
def report(study: StudyFolder, quiet: Quiet = False, debug: Debug = False) -> None:
    """Write report.html, results.csv and results.md again from what the study's folder holds."""

    def work(console: Console) -> None:
        from tametail.report import write_report

        path = write_report(study)
        console.say("Report:")
        typer.echo(path)

    _run(work, quiet=quiet, debug=debug)


@app.command()
def predict(
    study: StudyFolder,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV file to write.")] = Path("predictions.csv"),
    loss: Annotated[
        str | None, typer.Option(help="A loss of the study; default: its best.", show_default=False)
    ] = None,
    prevalence: Annotated[
        str | None,
        typer.Option(
            help="Class shares where the images come from: even, 'nv=0.8,mel=0.2', or a JSON file.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write class probabilities for images, by the mean of a loss's fold models."""

    def work(console: Console) -> None:
        from tametail.deploy import find_images, load, read_prevalence

        found = find_images(images)
        classifier = load(study, loss, device=device)
        asked = None if prevalence is None else read_prevalence(prevalence, classifier.class_names)
        table = classifier.predict(found, console, prevalence=asked)
        with writing(out):
            table.to_csv(out, index=False, float_format="%.6f")
        failed = int((table["error"] != "").sum())
        saturated = int((table["saturated"] == True).sum())  # noqa: E712  (a failed image has none)
        if saturated:
            console.warn(
                f"{saturated} of {len(table)} images reach the largest probability that {classifier.loss} can tell, "
                f"{classifier.ceiling:.3f} before scaling; column saturated names them"
            )
        if failed:
            console.warn(f"{failed} of {len(table)} images could not be read; column error says why")
        console.say(
            f"{len(table) - failed} images, model {classifier.loss} (mean of {len(classifier.members)} fold models, "
            f"link {classifier.link}):"
        )
        typer.echo(out)

    _run(work, quiet=quiet, debug=debug)


app.command()(inspect)
app.command()(subsample)
app.command()(reproduce)
app.command()(losses)
app.command()(strategies)
app.command()(gradients)
app.add_typer(recipe_commands, name="recipe")


def _show(study: Study) -> None:
    from tametail.report import results_table

    if study.report.is_file():
        typer.echo(results_table(study.directory))
        typer.echo(f"Report: {study.report}")
    if study.failed:
        raise TametailError("these runs failed, and their losses have no result: " + "; ".join(study.failed))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tametail {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the ``tametail`` command."""
    app()
