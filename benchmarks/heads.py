"""A thousand heads trained to their minima together and one by one: passes, time beside the matrix products, equality.

python benchmarks/heads.py [--data FOLDER] [--quick] [-o docs/results/heads.md]

50 ALPA settings from the paper's ranges × 5 folds × 4 repeats, each with its own folds, from weights of 0 and with a fixed
penalty; on the features of the last layer of a backbone and on those of all its stages (made-up ones without a folder of
images). Each turn is one fold: all heads together, one of them alone, and the matrix products of their passes at the same
shapes, one after the other on one core, so that a busy machine slows all of them. Then, for one fold, what choosing the
penalty and further starts cost.

Exits 1 if a head did not converge, if the heads take more than 2.5 times their products, if they are less than half as much
faster than alone as the products allow, or if heads differ by more than 1e-4 of the logits' scale.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data import Others
from losses import machine
from tametail.core.console import Console
from tametail.data import read_images
from tametail.losses import ALPALoss
from tametail.models.heads import Standardise
from tametail.study.inputs import prepare_inputs
from tametail.training.hardware import make_accelerator
from tametail.training.heads.components import principal_components
from tametail.training.heads.head_step import HeadTask
from tametail.training.heads.minimum import Fit, Passes, TrainingImages, train_to_minimum
from tametail.training.recipe import load_recipe
from tametail.training.training_data import backbone_of

REAL = Path(__file__).parents[2] / "shared" / "data" / "ham10000_224"
FOLDS, REPEATS, SETTINGS, L2 = 5, 4, 50, 0.1
WIDTHS = {1280: "none", 2848: "all"}  # features, and the stages of the backbone that give them
MOST_OVER_PRODUCTS, LEAST_OF_SPEEDUP, MOST_DIFFERENCE, MOST_FOR_CHOICE = 2.5, 0.5, 1e-4, 3.0


@dataclass(frozen=True)
class Turn:
    """Standardised features (n, D), targets (n,) and inner folds (n,) of the training images of one fold."""

    features: Tensor
    target: Tensor
    fold: NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """One turn: seconds of preparation, of all heads, of one alone, and of the products of both; passes; difference."""

    prepared: float
    together: float
    alone: float
    products: float
    products_alone: float
    passes: int
    passes_alone: int
    evaluations: int
    converged: int
    iterations: list[int]
    difference: float


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def drawn_losses(count: int) -> list[ALPALoss]:
    """Settings from the ranges of the paper's Section 6.1."""
    random = np.random.default_rng(0)
    weights, gammas = random.uniform(0.5, 2, (count, 2)), random.uniform(0, 5, (count, 2))
    return [
        ALPALoss(alpha=alpha, beta=beta, gamma_pos=positive, gamma_neg=negative)
        for (alpha, beta), (positive, negative) in zip(weights.tolist(), gammas.tolist(), strict=True)
    ]


def images_of(
    folder: Path, repeats: int, stages: str
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Features (N, D), targets (N,) and folds (repeats, N) of the training set of a folder of images."""
    console = Console(quiet=True)
    recipe = load_recipe("head", fields={"weights": "offline"}, assignments=[f"features.stages={stages}"])
    inputs = prepare_inputs(
        read_images(folder),
        recipe,
        backbone_of(recipe),
        folds=FOLDS,
        seed=0,
        group_duplicates=False,
        repeats=repeats,
        console=console,
    )
    array = inputs.training_data(make_accelerator(recipe, "cpu"), console).array
    rows = inputs.splits.part == "train"
    folds = np.stack([inputs.splits.fold_in(repeat)[rows] for repeat in range(repeats)])
    return np.asarray(array, np.float32)[rows], inputs.table.targets[rows], folds


def made_up(width: int, repeats: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Correlated features of the size of the HAM10000 subset, whose classes overlap."""
    random = np.random.default_rng(0)
    target = random.choice(7, 3248, p=[0.05, 0.06, 0.14, 0.02, 0.12, 0.59, 0.02])
    spread = np.arange(1, width + 1) ** -0.5
    features = (
        random.normal(size=(3248, width)) * spread + 0.4 * random.normal(size=(7, width))[target] * spread
    )
    features = features @ np.linalg.qr(random.normal(size=(width, width)))[0]
    folds = np.stack([random.permutation(len(target)) % FOLDS for _ in range(repeats)])
    return features.astype(np.float32), target.astype(np.int64), folds.astype(np.int64)


def turns(
    features: NDArray[np.float32], target: NDArray[np.int64], folds: NDArray[np.int64]
) -> Iterator[Turn]:
    """One for each repeat and fold."""
    for fold in folds:
        for held_out in range(FOLDS):
            rows = fold != held_out
            own = torch.from_numpy(features[rows])
            standardise = Standardise(features.shape[1:])
            standardise.fit(own)
            yield Turn(standardise(own), torch.from_numpy(target[rows]), fold[rows])


def product_seconds(images: TrainingImages, heads: int) -> float:
    """Seconds of one product for one head among so many, the mean of both kinds, each the best of several tries."""
    classes, columns = images.shape
    weights = torch.randn(heads * classes, columns)
    slopes = torch.randn(heads * classes, len(images.columns))
    forward = min(timed(lambda: weights @ images.columns.T) for _ in range(5))
    backward = min(timed(lambda: slopes @ images.columns) for _ in range(5))
    return (forward + backward) / 2 / heads


def measure(turn: Turn, tasks: list[HeadTask], at: int) -> Measured:
    """One turn of all sides; ``at`` is the head that is trained alone."""
    counts = torch.bincount(turn.target).tolist()
    began = time.perf_counter()
    components = principal_components(turn.features)
    images = TrainingImages(components.columns, components.variances, turn.target, counts, lambda: None)
    prepared = time.perf_counter() - began
    together, alone = Passes(), Passes()
    found = images.minimise([Fit(task, L2) for task in tasks], together)
    (one,) = images.minimise([Fit(tasks[at], L2)], alone)
    size = min(len(tasks), images.most_at_once)
    columns = components.columns
    expected, own = one.weights @ columns.T, found[at].weights @ columns.T
    return Measured(
        prepared,
        together.seconds,
        alone.seconds,
        product_seconds(images, size) * together.products,
        product_seconds(images, 1) * alone.products,
        together.products,
        alone.products,
        together.evaluations,
        sum(minimum.converged for minimum in found),
        [minimum.iterations for minimum in found],
        float((own - expected).abs().max() / expected.abs().max()),
    )


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def summary(name: str, found: list[Measured], heads: int) -> tuple[str, bool]:
    """A row of the table, and whether it is good enough."""
    over = sum(each.together for each in found) / sum(each.products for each in found)
    speedup = [heads * each.alone / each.together for each in found]
    allowed = [heads * each.products_alone / each.products for each in found]
    share = statistics.median(own / most for own, most in zip(speedup, allowed, strict=True))
    converged, worst = sum(each.converged for each in found), max(each.difference for each in found)
    iterations = [count for each in found for count in each.iterations]
    row = (
        f"| {name} | {converged} of {heads * len(found)} | {sum(each.passes for each in found):,} | "
        f"{statistics.median(iterations):.0f} (max {max(iterations)}) | {sum(each.together for each in found):.1f} | "
        f"{sum(each.prepared for each in found):.1f} | {over:.2f} | {spread(speedup)} | {share:.2f} | {worst:.1g} |"
    )
    good = converged == heads * len(found) and over <= MOST_OVER_PRODUCTS
    return row, good and share >= LEAST_OF_SPEEDUP and worst <= MOST_DIFFERENCE


def extra(name: str, turn: Turn, losses: list[ALPALoss]) -> tuple[str, bool]:
    """What the choice of the penalty and further starts cost beside the final fits, for one fold."""
    recipe, counts = load_recipe("head"), torch.bincount(turn.target).tolist()
    head = nn.Linear(turn.features.shape[1], len(counts))
    tasks = [HeadTask(loss, recipe, head) for loss in losses]
    found = train_to_minimum(turn.features, turn.target, tasks, class_counts=counts, fold=turn.fold, seed=0)
    choice, final, starts = (found.cost[key] for key in ("choice", "final", "starts"))
    kept = sum(each.start != "zero" for each in found.convergence)
    spreads = [max(each.starts.values()) / min(each.starts.values()) - 1 for each in found.convergence]
    row = (
        f"| {name} | {choice.products / final.products:.2f} | {choice.seconds / final.seconds:.2f} | "
        f"{starts.products / final.products:.2f} | {starts.seconds / final.seconds:.2f} | {kept} of {len(losses)} | "
        f"{max(spreads):.1e} |"
    )
    return row, choice.products <= MOST_FOR_CHOICE * final.products


def main() -> int:
    """Measure, print, and say whether it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=REAL, help="folder of images, as compare takes it")
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results/heads.md"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    repeats = 1 if asked.quick else REPEATS
    losses, others, recipe = drawn_losses(SETTINGS), Others(), load_recipe("head")
    real = asked.data.is_dir()
    sets = [
        (asked.data.name, images_of(asked.data, repeats, stages))
        if real
        else ("made-up", made_up(width, repeats))
        for width, stages in WIDTHS.items()
    ]
    rows, extras, good = [], [], []
    for name, (features, target, folds) in sets:
        head = nn.Linear(features.shape[1], int(target.max()) + 1)
        tasks = [HeadTask(loss, recipe, head) for loss in losses]
        found = [
            measure(turn, tasks, 7 * number % SETTINGS)
            for number, turn in enumerate(turns(features, target, folds))
        ]
        images = round(len(target) * (FOLDS - 1) / FOLDS)
        label = f"{name}: {images} images, {features.shape[1]} features, {head.out_features} classes"
        for part, (row, fine) in (
            (rows, summary(label, found, SETTINGS)),
            (extras, extra(label, next(turns(features, target, folds)), losses)),
        ):
            part.append(row)
            good.append(fine)
            print(row, flush=True)
    text = "\n".join(
        [
            "# A thousand heads trained to their minima",
            "",
            "    python benchmarks/heads.py    (make bench-heads)",
            "",
            f"Machine: {machine('cpu')}. One core. {SETTINGS} ALPA settings (α, β from 0.5 to 2, γ+, γ- from 0 to 5) × {FOLDS} folds × "
            f"{repeats} repeats with their own folds, from weights of 0, λ = {L2}. A pass multiplies the features of all training images "
            f"with the weights of one head, or with the gradients of its outputs. Times are sums over all folds; each ratio is within a "
            f"fold, with quartiles (n = {repeats * FOLDS} folds).",
            "",
            "| | converged | passes | iterations | s together | s for the components | × the products of these passes | × faster than alone | "
            "of what the products allow | largest difference |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "Choosing λ on the inner folds and further starts, as multiples of the final fits from weights of 0 (one fold, 50 settings):",
            "",
            "| | choice, passes | choice, time | starts, passes | starts, time | another start kept | largest spread over starts |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *extras,
            "",
            f"Differences are of logits, in units of their scale. {others}",
            "",
        ]
    )
    print(text)
    if not asked.quick:
        asked.out.write_text(text, encoding="utf-8")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
