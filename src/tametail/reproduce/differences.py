"""How a reproduction differs from the paper, determined by comparing values, and what the paper does not state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tametail.data import ImageTable
from tametail.losses.alpa import Variant
from tametail.reproduce.experiments import Experiment, Rivals
from tametail.reproduce.paper_set import file_sizes
from tametail.training.recipe import Recipe, load_recipe
from tametail.training.training_data import backbone_of

PAPER_FOLDS = 5
PAPER_INPUT = 256  # pixels
STATED: dict[str, Any] = {
    "trains": "all",
    "backbone": "convnext_base",
    "image_size": PAPER_INPUT,
    "batch_size": 128,
    "optimizer.kind": "adam",
    "optimizer.lr": 1e-4,
    "optimizer.weight_decay": 1e-3,
    "optimizer.momentum": 0.9,
}
"""What Section 5.2 states about the training, as fields of a recipe."""
NO_DIFFERENCE = "nothing that the paper states"

_SHARE = 0.2  # of the test set
_LABELS = ("name", "summary")  # fields without effect


@dataclass(frozen=True)
class ExperimentSetup:
    """How the experiment is run here.

    Attributes:
        table: the images.
        classes: published class → class of the table.
        recipe: of the study.
        folds, seeds: number of folds, and of trainings for each of them.
        variant: of ALPA.
        rivals: which parameters the other losses have.
        test_set: whether the study is evaluated on the test set.
    """

    table: ImageTable
    classes: Mapping[str, str]
    recipe: Recipe
    folds: int
    seeds: int
    variant: Variant
    rivals: Rivals
    test_set: bool


@dataclass(frozen=True)
class Differences:
    """Differences from the paper, one phrase each.

    Attributes:
        stated: where the paper states another value, of the images or the training.
        unstated: what the paper does not state, and what is used here.
    """

    stated: tuple[str, ...]
    unstated: tuple[str, ...]


def differences_from_paper(experiment: Experiment, setup: ExperimentSetup) -> Differences:
    """Compare a setup with that of the paper. Reads the headers of some image files, but no pixels."""
    held_out = "evaluation: cross-validation on the training set; the test set stays held out (the paper: the test set)"
    stated = (
        *([] if setup.test_set else [held_out]),
        *_images(experiment, setup),
        *_split(setup),
        *_methods(experiment, setup),
        *_training(setup.recipe),
    )
    return Differences(stated, tuple(_unstated(experiment, setup)))


def _images(experiment: Experiment, setup: ExperimentSetup) -> Iterator[str]:
    paper, counts = experiment.published.images, setup.table.counts()
    if setup.table.synthetic:
        yield "images: synthetic"
    if len(setup.table) != paper.samples:
        yield f"images: {len(setup.table):,} (the paper: {paper.samples:,})"
    pairs = [(name, counts[own], paper.total[name]) for name, own in setup.classes.items()]
    if any(here != there for _, here, there in pairs):
        each = ", ".join(f"{name} {here:,} ({there:,})" for name, here, there in pairs)
        yield f"images per class (the whole set): {each}"
    ratio = f"{setup.table.imbalance_ratio:.1f}"
    if ratio != f"{paper.imbalance_ratio:.1f}":
        yield f"imbalance ratio: {ratio} (the whole set: {paper.imbalance_ratio:.1f})"
    yield from _files(experiment, setup)


def _files(experiment: Experiment, setup: ExperimentSetup) -> Iterator[str]:
    sizes = file_sizes(setup.table.paths)
    if not sizes:
        return
    seen = ", ".join(f"{width}×{height}" for width, height in sizes[:3]) + (" ..." if len(sizes) > 3 else "")
    if experiment.file_size is not None and any(size != experiment.file_size for size in sizes):
        width, height = experiment.file_size
        yield f"image files: {seen} pixels (the paper: {width}×{height})"
    elif min(min(size) for size in sizes) < PAPER_INPUT:
        yield f"image files: {seen} pixels, smaller than the paper's input of {PAPER_INPUT}×{PAPER_INPUT}"


def _split(setup: ExperimentSetup) -> Iterator[str]:
    held_out = int((setup.table.frame["split"] == "test").sum())
    if held_out:
        share = held_out / len(setup.table)
        yield f"test set: the {held_out:,} images ({share:.0%}) that come with the set (the paper: {_SHARE:.0%}, drawn)"
    if setup.folds != PAPER_FOLDS:
        yield f"folds: {setup.folds} (the paper: {PAPER_FOLDS})"


def _methods(experiment: Experiment, setup: ExperimentSetup) -> Iterator[str]:
    if setup.variant != "paper":
        whose = {
            "code": "the released code's form",
            "pade": "true Padé approximants, our reading of the title",
        }
        yield f"ALPA: variant {setup.variant}, {whose[setup.variant]} (the paper: Eq. 11, variant paper)"
    trained = experiment.methods(setup.variant, setup.rivals)
    for column in experiment.published.columns:
        if column not in trained:
            yield f"column {column}: left out, as the released code has no such loss"


def _training(recipe: Recipe) -> Iterator[str]:
    here, ours = _flat(recipe), _flat(load_recipe("paper"))
    for field, value in STATED.items():
        if here[field] != value:
            yield f"{field}: {_as_text(here[field])} (the paper: {_as_text(value)})"
    chosen = [
        f"{field} {_as_text(value)} ({_as_text(ours.get(field))})"
        for field, value in here.items()
        if field not in STATED and value != ours.get(field)
    ]
    if chosen:
        yield f"not stated in the paper, compared with our recipe paper: {', '.join(chosen)}"


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted field → value, with the backbone as architecture and pretrained tag."""
    flat: dict[str, Any] = {}
    for field, value in recipe.model_dump(mode="json").items():
        if isinstance(value, Mapping):
            flat |= {f"{field}.{inner}": content for inner, content in value.items()}
        elif field not in _LABELS:
            flat[field] = value
    architecture, _, tag = recipe.backbone.partition(".")
    size = recipe.image_size or backbone_of(recipe).image_size
    return flat | {"backbone": architecture, "pretrained tag": tag or None, "image_size": size}


def _unstated(experiment: Experiment, setup: ExperimentSetup) -> Iterator[str]:
    recipe = setup.recipe
    yield f"length and start: {recipe.epochs} epochs, the last model is used; weights {recipe.weights} of {recipe.backbone}"
    groups = len(set(setup.table.groups))
    grouped = groups < len(setup.table)
    kept = f"; {groups:,} groups (patients, lesions, copies), none divided" if grouped else ""
    yield f"split and folds: stratified by class, at random{kept}"
    yield f"repetitions: {setup.seeds} training{'s' if setup.seeds > 1 else ''} per method and fold"
    if setup.test_set:
        yield (
            "evaluated model: the mean over the fold models, and their ensemble (mean of their probabilities)"
        )
    if set(experiment.published.columns) != set(experiment.presets):
        whose = {
            "figure1": "those of Figure 1's caption, the only published ones",
            "defaults": "those in common use, our defaults",
        }
        yield f"settings of ASL and focal loss: {whose[setup.rivals]}; CE is the softmax cross-entropy"


def _as_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
