"""In what a reproduction differs from the paper, worked out by comparing values, and what the paper leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tametail.data import ImageTable
from tametail.models.backbones import describe_backbone
from tametail.reproduce.experiments import Experiment, Rivals, Variant
from tametail.reproduce.paper_set import file_sizes
from tametail.training.recipe import Recipe, load_recipe

PAPER_FOLDS = 5
PAPER_INPUT = 256  # pixels
TOLD: dict[str, Any] = {
    "trains": "all",
    "backbone": "convnext_base",
    "image_size": PAPER_INPUT,
    "batch_size": 128,
    "optimizer.kind": "adam",
    "optimizer.lr": 1e-4,
    "optimizer.weight_decay": 1e-3,
    "optimizer.momentum": 0.9,
}
"""What Section 5.2 tells of the training, as fields of a recipe."""
NOTHING_TOLD = "nothing that the paper tells"

_SHARE = 0.2  # of the test set
_NAMES = ("name", "summary")  # fields that do nothing


@dataclass(frozen=True)
class Setting:
    """How the experiment is run here.

    Attributes:
        table: the images.
        classes: printed class → class of the table.
        recipe: as asked for.
        folds, seeds: of the study.
        variant: of ALPA.
        rivals: whose settings they have.
        sealed: whether the test set stays closed.
    """

    table: ImageTable
    classes: Mapping[str, str]
    recipe: Recipe
    folds: int
    seeds: int
    variant: Variant
    rivals: Rivals
    sealed: bool


@dataclass(frozen=True)
class Differences:
    """One phrase each.

    Attributes:
        told: where the paper tells another value, in the images or in the training.
        left_open: what the paper does not tell, and how it is here.
    """

    told: tuple[str, ...]
    left_open: tuple[str, ...]


def differences_from_paper(experiment: Experiment, setting: Setting) -> Differences:
    """Compare a setting with the paper's. Reads the headers of some image files, and no pixel."""
    told = (
        *_sealed(setting),
        *_images(experiment, setting),
        *_split(setting),
        *_methods(experiment, setting),
        *_training(setting.recipe),
    )
    return Differences(tuple(told), tuple(_left_open(experiment, setting)))


def _sealed(setting: Setting) -> Iterator[str]:
    if setting.sealed:
        yield "what is measured: out of fold, on the training set; the test set stays held out (the paper: the test set)"


def _images(experiment: Experiment, setting: Setting) -> Iterator[str]:
    paper, counts = experiment.printed.images, setting.table.counts()
    if setting.table.synthetic:
        yield "images: drawn, not taken"
    if len(setting.table) != paper.samples:
        yield f"images: {len(setting.table):,} (the paper: {paper.samples:,})"
    pairs = [(name, counts[own], paper.total[name]) for name, own in setting.classes.items()]
    if any(here != there for _, here, there in pairs):
        each = ", ".join(f"{name} {here:,} ({there:,})" for name, here, there in pairs)
        yield f"images per class (the whole set): {each}"
    ratio = f"{setting.table.imbalance_ratio:.1f}"
    if ratio != f"{paper.imbalance_ratio:.1f}":
        yield f"imbalance ratio: {ratio} (the whole set: {paper.imbalance_ratio:.1f})"
    yield from _files(experiment, setting)


def _files(experiment: Experiment, setting: Setting) -> Iterator[str]:
    sizes = file_sizes(setting.table.paths)
    if not sizes:
        return
    seen = ", ".join(f"{width}×{height}" for width, height in sizes[:3]) + (" ..." if len(sizes) > 3 else "")
    if experiment.file_size is not None and any(size != experiment.file_size for size in sizes):
        width, height = experiment.file_size
        yield f"image files: {seen} pixels (the paper: {width}×{height})"
    elif min(min(size) for size in sizes) < PAPER_INPUT:
        yield f"image files: {seen} pixels, smaller than the paper's input of {PAPER_INPUT}×{PAPER_INPUT}"


def _split(setting: Setting) -> Iterator[str]:
    held_out = int((setting.table.frame["split"] == "test").sum())
    if held_out:
        share = held_out / len(setting.table)
        yield f"test set: the {held_out:,} images ({share:.0%}) that come with the set (the paper: {_SHARE:.0%}, drawn)"
    if setting.folds != PAPER_FOLDS:
        yield f"folds: {setting.folds} (the paper: {PAPER_FOLDS})"


def _methods(experiment: Experiment, setting: Setting) -> Iterator[str]:
    if setting.variant != "paper":
        whose = {
            "code": "the released code's form",
            "pade": "true Padé approximants, our reading of the title",
        }
        yield f"ALPA: variant {setting.variant}, {whose[setting.variant]} (the paper: Eq. 11, variant paper)"
    trained = experiment.methods(setting.variant, setting.rivals)
    for column in experiment.printed.columns:
        if column not in trained:
            yield f"column {column}: left out, as the released code has no such loss"


def _training(recipe: Recipe) -> Iterator[str]:
    here, ours = _flat(recipe), _flat(load_recipe("paper"))
    for field, told in TOLD.items():
        if here[field] != told:
            yield f"{field}: {_written(here[field])} (the paper: {_written(told)})"
    chosen = [
        f"{field} {_written(value)} ({_written(ours.get(field))})"
        for field, value in here.items()
        if field not in TOLD and value != ours.get(field)
    ]
    if chosen:
        yield f"what the paper leaves open, against our recipe paper: {', '.join(chosen)}"


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted field → value. The backbone is told by its architecture, and which weights it starts from apart."""
    flat: dict[str, Any] = {}
    for field, value in recipe.model_dump(mode="json").items():
        if isinstance(value, Mapping):
            flat |= {f"{field}.{inner}": content for inner, content in value.items()}
        elif field not in _NAMES:
            flat[field] = value
    architecture, _, tag = recipe.backbone.partition(".")
    size = recipe.image_size or describe_backbone(recipe.backbone).image_size
    return flat | {"backbone": architecture, "pretrained tag": tag or None, "image_size": size}


def _left_open(experiment: Experiment, setting: Setting) -> Iterator[str]:
    recipe = setting.recipe
    yield f"length and start: {recipe.epochs} epochs, the last one counts; weights {recipe.weights} of {recipe.backbone}"
    groups = len(set(setting.table.groups))
    grouped = groups < len(setting.table)
    kept = f"; {groups:,} groups (patients, lesions, copies), none divided" if grouped else ""
    yield f"split and folds: stratified by class, drawn anew{kept}"
    yield f"repetitions: {setting.seeds} training{'s' if setting.seeds > 1 else ''} per loss and fold"
    if not setting.sealed:
        yield (
            "which model is tested: the mean over the fold models, and beside it their ensemble (mean of their "
            "probabilities)"
        )
    if set(experiment.printed.columns) != set(experiment.presets):
        whose = {
            "figure1": "those of Figure 1's caption, the only ones it tells",
            "defaults": "those in common use, our defaults",
        }
        yield f"settings of ASL and focal loss: {whose[setting.rivals]}; CE is the softmax cross-entropy"


def _written(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
