"""What the features of all stages are worth: variants of the feature vector of a frozen backbone on the same folds.

    python scripts/feature_variants.py FOLDER [FOLDER ...] [-o docs/results/features.md]

For each folder of images (as ``tametail compare`` reads it) the features of the packaged EfficientNet-Lite0 are computed once
for each kind of view, and every variant takes some of their blocks, scaled on the training images of the fold. Heads are
trained to their minimum with plain cross-entropy, the penalty chosen on the inner folds, and decide as they are (``ce``) and
with the prior taken out (``ce+la``). Three repeats with their own folds; the held-out test set is left out. Differences from
the network's own features are paired, with 95 % intervals over images or their groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score
from torch import nn

from tametail.core.console import Console
from tametail.data import read_images
from tametail.evaluation.paired import against_one
from tametail.losses import create_loss
from tametail.models.heads import Standardise
from tametail.predictions.single_label import Predictions
from tametail.study.inputs import prepare_inputs
from tametail.training.hardware import make_accelerator
from tametail.training.heads.head_step import HeadTask
from tametail.training.heads.minimum import train_to_minimum
from tametail.training.recipe import load_recipe
from tametail.training.training_data import backbone_of

FOLDS, REPEATS = 5, 3
VIEWS = {"none": 1, "horizontal_flip": 2, "flips": 4}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """A choice of blocks by their names, how they are scaled, and the views that are averaged."""

    name: str
    blocks: Callable[[str], bool]
    scaling: str = "block"
    views: str = "none"


def last_stages(name: str) -> bool:
    return name[0] == "f" or int(name[1:]) >= 4


VARIANTS = (
    Variant("its own features (before)", lambda name: name == "f"),
    Variant("own, mean of stages 5 and 7", lambda name: name in {"f", "s4", "s6"}),
    Variant("own, mean and deviation of stages 5 to 7", last_stages),
    Variant("own, mean of all stages", lambda name: name[0] in "fs"),
    Variant("**own, mean and deviation of all stages (default)**", lambda name: True),
    Variant("the same, scaled as one block", lambda name: True, "one"),
    Variant("the same, each feature scaled", lambda name: True, "feature"),
    Variant("default, horizontal flip averaged", lambda name: True, views="horizontal_flip"),
    Variant("default, both flips averaged", lambda name: True, views="flips"),
)


@dataclass(frozen=True)
class Images:
    """The training set of a folder: features (N, D) by views, blocks by name, targets, folds (repeats, N), groups, names."""

    features: dict[str, NDArray[np.float32]]
    blocks: dict[str, slice]
    target: NDArray[np.int64]
    folds: NDArray[np.int64]
    groups: NDArray[np.str_]
    names: NDArray[np.str_]
    classes: tuple[str, ...]


def images_of(folder: Path) -> Images:
    console, features = Console(), {}
    for views in VIEWS:
        recipe = load_recipe("head", fields={"weights": "offline"}, assignments=[f"features.views={views}"])
        spec = backbone_of(recipe)
        inputs = prepare_inputs(
            read_images(folder),
            recipe,
            spec,
            folds=FOLDS,
            seed=0,
            group_duplicates=False,
            repeats=REPEATS,
            console=console,
        )
        rows = inputs.splits.part == "train"
        array = inputs.training_data(make_accelerator(recipe, "cpu"), console).array
        features[views] = np.asarray(array[rows], np.float32)
    names = ["f", *(f"{kind}{at}" for at in range(len(spec.stages)) for kind in "sd")]
    ends = np.cumsum(spec.blocks)
    blocks = {name: slice(end - size, end) for name, end, size in zip(names, ends, spec.blocks, strict=True)}
    table = inputs.table
    return Images(
        features,
        blocks,
        table.targets[rows],
        np.stack([inputs.splits.fold_in(repeat)[rows] for repeat in range(REPEATS)]),
        np.asarray(table.groups)[rows].astype(np.str_),
        np.asarray(table.images)[rows].astype(np.str_),
        table.class_names,
    )


def scaled(features: torch.Tensor, rows: torch.Tensor, sizes: Sequence[int], scaling: str) -> torch.Tensor:
    """Features (N, D) scaled by training rows; the sum of the variances is always the first block's length."""
    if scaling == "block":
        standardise = Standardise(sizes)
        standardise.fit(features[rows])
        return standardise(features)
    centred = features - features[rows].mean(0)
    if scaling == "feature":
        centred = centred / centred[rows].square().mean(0).sqrt().clamp(min=1e-6)
    return centred * (sizes[0] / centred[rows].square().sum(1).mean()).sqrt()


def out_of_fold(images: Images, variant: Variant) -> tuple[list[Array], list[Array], int]:
    """Log-probabilities (N, C) of ``ce`` and of ``ce+la`` for each repeat, and the number of features."""
    chosen = [of_block for name, of_block in images.blocks.items() if variant.blocks(name)]
    sizes = [of_block.stop - of_block.start for of_block in chosen]
    array = images.features[variant.views]
    features = torch.from_numpy(np.concatenate([array[:, of_block] for of_block in chosen], axis=1))
    recipe, target = load_recipe("head"), torch.from_numpy(images.target)
    plain, adjusted = [], []
    for fold in images.folds:
        found = torch.zeros(2, len(target), len(images.classes), dtype=torch.float64)
        for held_out in range(FOLDS):
            rows = torch.from_numpy(fold != held_out)
            inputs = scaled(features, rows, sizes, variant.scaling)
            counts = torch.bincount(target[rows], minlength=len(images.classes))
            task = HeadTask(create_loss("ce"), recipe, nn.Linear(inputs.shape[1], len(counts)))
            trained = train_to_minimum(
                inputs[rows],
                target[rows],
                [task],
                class_counts=counts.tolist(),
                fold=fold[fold != held_out],
                seed=0,
            )
            with torch.no_grad():
                logits = trained.heads[0](inputs[~rows]).double()
            found[0, ~rows] = logits.log_softmax(1)
            found[1, ~rows] = (logits - counts.clamp(min=1).log()).log_softmax(1)
        plain.append(found[0].numpy())
        adjusted.append(found[1].numpy())
    return plain, adjusted, sum(sizes)


def predictions(images: Images, log_p: Sequence[Array]) -> list[Predictions]:
    """One table for each repeat."""
    return [
        Predictions(
            image=images.names,
            group=images.groups,
            target=images.target,
            fold=fold,
            logits=each.astype(np.float32),
            class_names=images.classes,
            link="softmax",
            posterior=None,
        )
        for each, fold in zip(log_p, images.folds, strict=True)
    ]


def losses(images: Images, log_p: Sequence[Array]) -> Array:
    """(N,) mean log-loss of each image over the repeats."""
    rows = np.arange(len(images.target))
    return np.mean([-each[rows, images.target] for each in log_p], axis=0)


def log_loss_difference(images: Images, a: Array, b: Array) -> str:
    """Mean difference of log-losses with its interval, groups as units."""
    d = a - b
    _, member = np.unique(images.groups, return_inverse=True)
    error = np.sqrt((np.bincount(member, weights=d - d.mean()) ** 2).sum()) / len(d)
    return f"{d.mean():+.3f} ({d.mean() - 1.96 * error:+.3f} to {d.mean() + 1.96 * error:+.3f})"


def percent(images: Images, log_p: Sequence[Array]) -> tuple[float, float, float]:
    """Balanced accuracy, macro-F1 and accuracy in %, means over the repeats."""
    scores = []
    for each in log_p:
        guess = each.argmax(1)
        recall = recall_score(images.target, guess, average="macro")
        scores.append(
            (recall, f1_score(images.target, guess, average="macro"), (guess == images.target).mean())
        )
    a, b, c = 100 * np.mean(scores, axis=0)
    return float(a), float(b), float(c)


def table(folder: Path) -> Iterator[str]:
    images = images_of(folder)
    results = {variant.name: out_of_fold(images, variant) for variant in VARIANTS}
    before = VARIANTS[0].name
    paired = against_one(
        {name: predictions(images, adjusted) for name, (_, adjusted, _) in results.items()}, before
    )
    yield f"\n## {folder.name}: n = {len(images.target):,}, {len(images.classes)} classes\n"
    yield (
        "| features | width | forward passes | `ce+la`: balanced accuracy | macro-F1 | accuracy | difference in balanced accuracy "
        "| `ce`: balanced accuracy | macro-F1 | accuracy | log-loss | difference in log-loss |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for variant in VARIANTS:
        plain, adjusted, width = results[variant.name]
        a, b = percent(images, adjusted), percent(images, plain)
        own, first = losses(images, plain), losses(images, results[before][0])
        gain, of_loss = "", ""
        if variant.name != before:
            d = paired[variant.name].difference  # the reference minus the variant
            gain = f"{-100 * d.value:+.1f} ({-100 * d.high:+.1f} to {-100 * d.low:+.1f})"
            of_loss = log_loss_difference(images, own, first)
        yield (
            f"| {variant.name} | {width:,} | {VIEWS[variant.views]} | {a[0]:.1f} | {a[1]:.1f} | {a[2]:.1f} | {gain} "
            f"| {b[0]:.1f} | {b[1]:.1f} | {b[2]:.1f} | {own.mean():.3f} | {of_loss} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    named = " ".join(folder.name for folder in asked.folders)
    lines = [
        "# Features of all stages of a frozen backbone\n",
        f"    python scripts/feature_variants.py {named} -o docs/results/features.md\n",
        "The packaged EfficientNet-Lite0 at 224 px, from one forward pass unless views are averaged. Heads at their minimum, λ "
        f"chosen on the inner folds, {FOLDS} folds, {REPEATS} repeats, out-of-fold predictions; all values but the log-loss in %. Differences are from the "
        "network's own features, paired over images (groups as units), with 95 % intervals; those of balanced accuracy are of `ce+la`.",
    ]
    for folder in asked.folders:
        for line in table(folder):
            print(line, flush=True)
            lines.append(line)
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
