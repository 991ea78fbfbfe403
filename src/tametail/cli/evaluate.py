"""The command that evaluates predictions made elsewhere, or a study's models on other images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tametail.cli.options import (
    By,
    Device,
    Download,
    GroupCol,
    ImageCol,
    ImageRoot,
    LabelCol,
    LabelCols,
    Operating,
    Root,
    SplitCol,
    listed,
    reading,
)
from tametail.cli.run_command import Debug, Quiet, run
from tametail.core.console import Console
from tametail.core.errors import UsageError

_OF_A_STUDY = {
    "losses", "map_", "drop_unknown", "image_col", "label_col", "group_col", "split_col", "image_root", "label_cols", "root",
    "download", "device",
}  # fmt: skip


def evaluate(
    context: typer.Context,
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Tables of predictions, one per model: columns image, label, group (may be left out), and prob_NAME or "
            "logit_NAME for each class. Or, with --data, a study.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the evaluation.")] = Path("evaluation"),
    by: By = None,
    operating: Operating = None,
    ordered: Annotated[
        bool,
        typer.Option(
            "--ordered", help="The classes are grades, in the order of the columns or of --classes."
        ),
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="All classes in their order: none,mild,severe.", show_default=False),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Other images for the study's models.", show_default=False)
    ] = None,
    losses: Annotated[
        str | None, typer.Option(help="Losses of the study; default: all finished ones.", show_default=False)
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="A label of the data and the class it is: nevus=nv.", show_default=False),
    ] = None,
    drop_unknown: Annotated[
        bool, typer.Option("--drop-unknown", help="Leave out images whose label is no class of the study.")
    ] = False,
    image_col: ImageCol = None,
    label_col: LabelCol = None,
    group_col: GroupCol = None,
    split_col: SplitCol = None,
    image_root: ImageRoot = None,
    label_cols: LabelCols = None,
    root: Root = None,
    download: Download = False,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Evaluate predictions of models trained elsewhere, or a study's models on other images, with the same report."""

    def work(console: Console) -> None:
        from tametail.external.evaluate_files import evaluate_files, read_operating
        from tametail.report import results_table

        points = read_operating(operating or ())
        if data is None:
            given = [
                parameter.opts[0]
                for parameter in context.command.params
                if parameter.name in _OF_A_STUDY
                and (source := context.get_parameter_source(parameter.name)) is not None
                and source.name == "COMMANDLINE"
            ]
            if given:
                raise UsageError(
                    f"{', '.join(given)} can only be given for a study with --data; leave it out"
                )
            report = evaluate_files(
                predictions,
                out,
                by=by or (),
                classes=listed(classes),
                ordered=ordered,
                operating=points,
                console=console,
            )
        else:
            from tametail.external.class_mapping import read_mapping
            from tametail.external.evaluate_study import evaluate_study

            if len(predictions) != 1:
                raise UsageError(f"expected one study with --data, got {len(predictions)} paths")
            if classes is not None:
                raise UsageError(
                    "--classes can only be given for tables of predictions; a study has its classes"
                )
            report = evaluate_study(
                predictions[0],
                data,
                out,
                methods=losses,
                mapping=read_mapping(map_ or ()),
                drop_unknown=drop_unknown,
                columns=reading(
                    image_col, label_col, group_col, split_col, image_root, label_cols, False, root, download
                ),
                by=by or (),
                ordered=ordered,
                operating=points,
                device=device,
                console=console,
            )
        typer.echo(results_table(out))
        typer.echo(f"Report: {report}")

    run(work, quiet=quiet, debug=debug)
