"""Options that mean the same on every command that has them, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tametail.core.errors import UsageError

DATA, TRAINING, MACHINE = "Data", "Training", "Machine"


def option(panel: str, *names: str, text: str) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=True)


Data = Annotated[
    str,
    typer.Argument(
        help="A folder of class folders, a folder with labels.csv, a CSV, TSV, Parquet or JSONL file, DICOM files, a "
        "MedMNIST .npz, the name of a known set, or [b]demo[/b] (built in, synthetic).",
        show_default=False,
    ),
]
ImageCol = Annotated[str | None, option(DATA, "--image-col", text="Column of image paths.")]
LabelCol = Annotated[str | None, option(DATA, "--label-col", text="Column of labels.")]
GroupCol = Annotated[str | None, option(DATA, "--group-col", text="Column of patients or lesions.")]
SplitCol = Annotated[str | None, option(DATA, "--split-col", text="Column that names the test set.")]
ImageRoot = Annotated[str | None, option(DATA, "--image-root", text="Folder of the images.")]
LabelCols = Annotated[
    str | None, option(DATA, "--label-cols", text="One column of 0 and 1 per class: MEL,NV,BCC.")
]
MultiLabel = Annotated[bool, option(DATA, "--multi-label", text="An image may have several labels, a|b.")]
Root = Annotated[str | None, option(DATA, "--root", text="Folder of a set known by name, as downloaded.")]
Download = Annotated[bool, option(DATA, "--download", text="Fetch a MedMNIST set that is not there.")]
GroupDuplicates = Annotated[
    bool, option(DATA, "--group-duplicates", text="Put duplicates in one group, so that they cross no split.")
]

By = Annotated[
    list[str] | None, typer.Option("--by", help="Column to evaluate by, such as sex.", show_default=False)
]
Operating = Annotated[
    list[str] | None,
    typer.Option("--operating", help="Required sensitivity of a class: melanoma=0.95.", show_default=False),
]
StudyFolder = Annotated[
    Path, typer.Argument(help="A study: the output folder of compare.", show_default=False)
]

Folds = Annotated[int, typer.Option(help="k of the cross-validation.")]
Seeds = Annotated[int, typer.Option(help="Trainings per fold, each with its own seed.")]
Backbone = Annotated[str | None, option(TRAINING, "--backbone", text="Any timm model.")]
Weights = Annotated[
    str | None, option(TRAINING, "--weights", text="auto (timm's hub), offline, none, or a file.")
]
ImageSize = Annotated[int | None, option(TRAINING, "--image-size", text="Pixels.")]
Epochs = Annotated[int | None, option(TRAINING, "--epochs", text="Passes over the training set.")]
BatchSize = Annotated[int | None, option(TRAINING, "--batch-size", text="Images per step.")]
LearningRate = Annotated[float | None, option(TRAINING, "--lr", text="Peak learning rate.")]
Assignments = Annotated[
    list[str] | None, option(TRAINING, "--set", text="Any field of the recipe: optimizer.weight_decay=0.1")
]

Device = Annotated[str, option(MACHINE, "--device", text="auto, cpu, cuda or mps.")]
MicroBatch = Annotated[
    int | None,
    option(MACHINE, "--micro-batch", text="Images at once; a batch is their sum. Default: what fits."),
]
Workers = Annotated[int, option(MACHINE, "--workers", text="Processes that read batches ahead.")]
Compile = Annotated[bool, option(MACHINE, "--compile", text="Compile the network.")]
Watch = Annotated[
    bool, option(MACHINE, "--watch/--no-watch", text="Judge the model on the held-out fold after each epoch.")
]
Track = Annotated[
    str | None,
    option(MACHINE, "--track", text="tensorboard, mlflow, wandb: told of loss, rate and validation."),
]


def recipe_fields(
    backbone: str | None,
    weights: str | None,
    image_size: int | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
) -> dict[str, Any]:
    """The options above as `load_recipe` takes them."""
    return dict(locals())


def listed(text: str | None) -> list[str]:
    """What stands between the commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def numbers(name: str, text: str) -> list[int]:
    """Whole numbers between commas.

    Raises:
        UsageError: something else stands there.
    """
    try:
        return [int(part) for part in listed(text)]
    except ValueError:
        raise UsageError(
            f"expected whole numbers with commas for {name}, such as 0,2, got {text!r}"
        ) from None


def reading(
    image_col: str | None,
    label_col: str | None,
    group_col: str | None,
    split_col: str | None,
    image_root: str | None,
    label_cols: str | None,
    multi_label: bool,
    root: str | None,
    download: bool,
) -> dict[str, Any]:
    """The options above as `read_images` takes them."""
    return dict(locals())
