"""The command line: one thin function per command. Heavy imports happen inside them, so that --help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tametail.core.console import Console
from tametail.core.errors import explain_write_error
from tametail.core.version import __version__

try:
    import typer

    from tametail.cli.compare import compare, resume, show_study
    from tametail.cli.evaluate import evaluate
    from tametail.cli.inspect import inspect, subsample
    from tametail.cli.losses import gradients, losses, strategies
    from tametail.cli.options import By, Device, ImageRoot, Operating, StudyFolder
    from tametail.cli.rank import rank
    from tametail.cli.recipe import recipe as recipe_commands
    from tametail.cli.recommend import recommend
    from tametail.cli.reproduce import reproduce
    from tametail.cli.run_command import Debug, Quiet
    from tametail.cli.run_command import run as _run
    from tametail.cli.search import search
except ModuleNotFoundError as missing:
    raise SystemExit(f"The command line needs {missing.name}: pip install 'tametail[train]'") from missing

app = typer.Typer(
    name="tametail",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare losses on your unbalanced medical images, honestly, and get a model to use.",
)

app.command()(compare)
app.command()(resume)
app.command()(recommend)
app.command()(search)


@app.command("open")
def open_(
    study: StudyFolder,
    image_root: ImageRoot = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Evaluate a study on its held-out test set. Every opening is recorded and printed in the report."""

    def work(console: Console) -> None:
        from tametail.study.study import evaluate_test_set

        show_study(evaluate_test_set(study, image_root=image_root, device=device, console=console))

    _run(work, quiet=quiet, debug=debug, interrupted="The opening is recorded; repeat the command to go on.")


@app.command()
def report(
    study: StudyFolder,
    images: Annotated[
        bool | None,
        typer.Option(
            "--images/--no-images", help="Show images, small; remembered. Default: yes.", show_default=False
        ),
    ] = None,
    by: By = None,
    operating: Operating = None,
    ordered: Annotated[
        bool | None,
        typer.Option(
            "--ordered/--unordered",
            help="The classes are grades, in the order of their names.",
            show_default=False,
        ),
    ] = None,
    image_root: ImageRoot = None,
    figures: Annotated[
        str | None,
        typer.Option(help="Figures for print, into STUDY/figures: pdf,svg,png.", show_default=False),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Judge unfinished losses by their finished runs, in partial.md and partial.csv."
        ),
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the report again from what the study's folder holds: a page, tables as CSV, Markdown and LaTeX, metrics.json.

    --by, --operating and --ordered are remembered, as --images is; an empty text takes back what was asked for.
    """

    def work(console: Console) -> None:
        from tametail.external.evaluate_files import read_operating
        from tametail.report import unfinished, write_report
        from tametail.report.figures.files import formats_of

        path = write_report(
            study,
            images=images,
            by=None if not by else [column for column in by if column],
            operating=None if not operating else read_operating([text for text in operating if text]),
            ordered=ordered,
            image_root=image_root,
            figures=() if figures is None else formats_of(figures),
            partial=partial,
        )
        for line in unfinished(study):
            console.warn(f"{line}; {'partial.md has its mean' if partial else '--partial shows its mean'}")
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
        from tametail.deployment.classifier import find_images, load, read_prevalence

        found = find_images(images)
        classifier = load(study, loss, device=device)
        asked = None if prevalence is None else read_prevalence(prevalence, classifier.class_names)
        table = classifier.predict(found, console, prevalence=asked)
        with explain_write_error(out):
            table.to_csv(out, index=False, float_format="%.6f")
        failed = int((table["error"] != "").sum())
        saturated = int((table["saturated"] == True).sum())  # noqa: E712  (a failed image has none)
        if saturated:
            console.warn(
                f"{saturated} of {len(table)} images reach the largest probability that {classifier.method} can tell, "
                f"{classifier.ceiling:.3f} before scaling; column saturated names them"
            )
        if failed:
            console.warn(f"{failed} of {len(table)} images could not be read; column error says why")
        console.say(
            f"{len(table) - failed} images, model {classifier.method} (mean of {len(classifier.fold_models)} fold models, "
            f"link {classifier.link}):"
        )
        typer.echo(out)

    _run(work, quiet=quiet, debug=debug)


app.command()(evaluate)
app.command()(rank)
app.command()(inspect)
app.command()(subsample)
app.command()(reproduce)
app.command()(losses)
app.command()(strategies)
app.command()(gradients)
app.add_typer(recipe_commands, name="recipe")


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
