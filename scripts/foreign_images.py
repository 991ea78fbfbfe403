"""How often foreign images are recognised, and images of the same set taken for foreign, on real images.

    python scripts/foreign_images.py ham10000_224 aptos2019_gf224_dev [-o docs/results/foreign-images.md]

For each set, and the built-in demo, a model of unlikeness is made as a study on frozen features makes it: of the images of all folds but
one, with its threshold by cross-fitting among these, whole groups at a time. The images of the fold that is left out are new ones of the
same set; each fold is left out in turn. Foreign ones are the training images of the other sets, noise and blank images, and two
photographs. Changed ones are images of the fold that is left out. The test sets are never read.

Beside the score that tametail uses, others are compared by what they detect where 5 % of the left-out images are false alarms.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from tametail.core.console import Console
from tametail.data import read_images
from tametail.evaluation.intervals import wilson
from tametail.evaluation.unlikeness import FALSE_ALARMS, fit_gaussian, fit_unlikeness, threshold
from tametail.study.inputs import StudyInputs, prepare_inputs
from tametail.training.hardware import make_accelerator
from tametail.training.recipe import load_recipe
from tametail.training.training_data import backbone_of, cached_features, evaluation_transform, frozen
from tametail.training.unlikeness_file import evenly

Features = NDArray[np.float32]
Pixels = NDArray[np.uint8]
FOLDS = 5
CHANGED = 30  # images of each fold, in each way
MADE = 100  # noise images, blank images
PARTS = 25  # of each photograph
RIVALS_OF = 2000  # images that the compared scores are fitted on


@dataclass(frozen=True)
class Set:
    """A set of images: training set only."""

    name: str
    features: Features
    group: NDArray[np.str_]
    fold: NDArray[np.int64]
    target: NDArray[np.int64]
    class_names: tuple[str, ...]
    pixels: Callable[[NDArray[np.int64]], Pixels]


def prepared(source: str) -> tuple[Set, StudyInputs]:
    """Read a set as `compare` does, with the features of the recipe ``head``."""
    recipe = load_recipe("head", fields={"weights": "offline"})
    spec, silent = backbone_of(recipe), Console(quiet=True)
    table = read_images(source)
    inputs = prepare_inputs(table, recipe, spec, folds=FOLDS, seed=0, group_duplicates=True, console=silent)
    store = cached_features(inputs.decoded, spec, inputs.backbone, make_accelerator(recipe, "cpu"))
    rows = np.flatnonzero(inputs.splits.part == "train")
    found = Set(
        inputs.table.name,
        store.take(rows),
        inputs.table.groups[rows],
        inputs.splits.fold_in(0)[rows],
        inputs.table.targets[rows],
        inputs.table.class_names,
        lambda own: inputs.decoded.pixels.take(rows[own]),
    )
    return found, inputs


def changes(side: int) -> dict[str, Callable[[Pixels], Pixels]]:
    """Ways to change an image (S, S, 3)."""
    rng = np.random.default_rng(0)
    centre = slice(side // 2 - side // 10, side // 2 + side // 10)
    return {
        "blurred (σ 8 px)": lambda image: cv2.GaussianBlur(image, (0, 0), 8),
        "with noise (σ 60)": lambda image: (image + rng.normal(0, 60, image.shape)).clip(0, 255),
        "inverted": lambda image: 255 - image,
        "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
        "at 15 % of the brightness": lambda image: image * 0.15,
        "red and blue exchanged": lambda image: image[..., ::-1],
        "the middle, enlarged 5 times": lambda image: cv2.resize(image[centre, centre], (side, side)),
    }


def made(side: int) -> dict[str, Pixels]:
    """Images of nothing: noise of single pixels, and coarser, blank ones, and parts of two photographs."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (MADE, side, side, 3), dtype=np.uint8)
    coarse = [
        cv2.resize(
            rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8),
            (side, side),
            interpolation=cv2.INTER_CUBIC,
        )
        for cells in np.tile([4, 8, 16, 32], MADE // 4)
    ]
    levels = [
        *np.linspace(0, 255, MADE // 2)[:, None].repeat(3, axis=1),
        *rng.integers(0, 256, (MADE // 2, 3)),
    ]
    blank = [np.broadcast_to(np.asarray(level, dtype=np.uint8), (side, side, 3)) for level in levels]
    photographs = []
    for image in load_sample_images().images:
        for _ in range(PARTS):
            size = rng.integers(150, 400)
            y, x = (int(rng.integers(0, limit - size)) for limit in image.shape[:2])
            part = image[y : y + size, x : x + size]
            photographs.append(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA))
    return {
        "noise": noise,
        "coarse noise": np.stack(coarse),
        "blank": np.stack(blank),
        "photographs": np.stack(photographs),
    }


def features_of(inputs: StudyInputs) -> Callable[[Pixels], Features]:
    """The frozen backbone of a study, on images (N, S, S, 3)."""
    network, transform = frozen(inputs.backbone, inputs.spec), evaluation_transform(inputs.spec)

    @torch.inference_mode()
    def compute(pixels: Pixels) -> Features:
        parts = [
            torch.from_numpy(np.ascontiguousarray(pixels[at : at + 16])) for at in range(0, len(pixels), 16)
        ]
        return np.concatenate([network.eval()(transform(part, None)).numpy() for part in parts])

    return compute


def with_interval(hits: float, n: int) -> str:
    """A proportion in percent with its Wilson interval."""
    low, high = (float(limit) for limit in wilson(hits / n, n))
    return f"{100 * hits / n:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def of_set(
    own: Set,
    others: list[Set],
    nothing: dict[str, Features],
    compute: Callable[[Pixels], Features],
    side: int,
    blocks: tuple[int, ...],
) -> Iterator[str]:
    """The rates of one set."""
    alarms, images, groups, hits = 0, 0, [], {}
    taken = np.zeros(len(own.features), dtype=np.bool_)
    for fold in range(FOLDS):
        inside = evenly(np.flatnonzero(own.fold != fold))
        fitted = fit_unlikeness(own.features[inside], blocks, own.group[inside], own.fold[inside])
        limit = threshold([fitted.held_out])
        outside = np.flatnonzero(own.fold == fold)
        found = fitted.gaussian.score(own.features[outside]) > limit
        taken[outside] = found
        alarms, images = alarms + int(found.sum()), images + len(outside)
        code = np.unique(own.group[outside], return_inverse=True)[1]
        groups += (np.bincount(code, found) / np.bincount(code)).tolist()
        some = np.sort(np.random.default_rng(fold).permutation(outside)[:CHANGED])
        changed = {
            way: compute(np.stack([np.asarray(change(image)).astype(np.uint8) for image in own.pixels(some)]))
            for way, change in changes(side).items()
        }
        foreign = {f"images of {other.name}": other.features for other in others} | nothing | changed
        for kind, features in foreign.items():
            rate = fitted.gaussian.score(features) > limit
            before, n, least = hits.get(kind, (0.0, 0, np.inf))
            score = float((fitted.gaussian.score(features) / limit).min())
            # The same foreign images meet each of the five models: their mean rate counts once.
            once = kind not in changed
            hits[kind] = (
                before + (rate.mean() * len(rate) / FOLDS if once else rate.sum()),
                len(rate) if once else n + len(rate),
                min(least, score),
            )
    yield f"## {own.name}\n"
    yield (
        f"{len(own.features):,} training images, {len(set(own.group.tolist())):,} groups. **Images of the same set that are taken for foreign: "
        f"{with_interval(alarms, images)} %** of {images:,}; {100 * np.mean(groups):.1f} % with the same weight for each of the {len(groups):,} groups, which "
        f"is what the threshold holds at {100 * FALSE_ALARMS:g} %.\n"
    )
    classes = (
        f"{name} {100 * taken[own.target == at].mean():.1f} ({int((own.target == at).sum()):,})"
        for at, name in enumerate(own.class_names)
    )
    yield f"Of each class, with its number of images: {', '.join(classes)}.\n"
    yield "| images | flagged, % | n | lowest score |"
    yield "|---|---:|---:|---:|"
    for kind, (found, n, least) in hits.items():
        yield f"| {kind} | {with_interval(found, n)} | {n:,} | {least:.2f} |"
    yield ""


def rivals(own: Set, foreign: dict[str, Features], blocks: tuple[int, ...]) -> Iterator[str]:
    """Rows of the compared scores: what each detects where 5 % of the first fold are false alarms."""
    inside = np.flatnonzero(own.fold != 0)
    inside = inside[np.linspace(0, len(inside) - 1, min(RIVALS_OF, len(inside))).astype(np.int64)]
    fitted = fit_gaussian(own.features[inside], blocks)

    def scaled(features: Features) -> Features:
        return (features - fitted.mean) / fitted.scale

    train, target = scaled(own.features[inside]), own.target[inside]
    values, vectors = np.linalg.eigh((train @ train.T).astype(np.float64))
    values, vectors = values[::-1][:128], vectors[:, ::-1][:, :128]
    basis = (train.T @ (vectors / np.sqrt(values))).astype(np.float32)
    variance = values / len(train)
    inner = train @ basis
    classes = [inner[target == index] for index in np.unique(target)]
    means = np.stack([each.mean(axis=0) for each in classes])
    spread = sum((each - each.mean(axis=0)).T @ (each - each.mean(axis=0)) for each in classes) / len(train)
    shrunk = 0.9 * spread + 0.1 * np.trace(spread) / len(spread) * np.eye(len(spread))
    inverse = np.linalg.inv(shrunk)

    def neighbours(points: Features, known: Features) -> Features:
        squares = (points**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * points @ known.T
        return np.partition(squares, 4, axis=1)[:, 4]

    def of_length_one(points: Features) -> Features:
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    def of_classes(features: Features) -> Features:
        away = (scaled(features) @ basis)[:, None] - means
        return np.einsum("nck,kl,ncl->nc", away, inverse, away).min(axis=1)

    def of_all(features: Features) -> Features:
        return ((scaled(features) @ basis) ** 2 / variance).sum(axis=1)

    scores: dict[str, Callable[[Features], Features]] = {
        "probabilistic PCA, 32 directions (used)": fitted.score,
        "residual outside of the 32 directions alone": lambda x: (
            (scaled(x) ** 2).sum(axis=1) - ((scaled(x) @ fitted.components) ** 2).sum(axis=1)
        ),
        "Mahalanobis distance, 128 directions": of_all,
        "Mahalanobis distance to the nearest class, 128 directions": of_classes,
        "relative Mahalanobis distance, 128 directions": lambda x: of_classes(x) - of_all(x),
        "5th nearest neighbour, all features": lambda x: neighbours(scaled(x), train),
        "5th nearest neighbour, all features, length 1": lambda x: neighbours(
            of_length_one(scaled(x)), of_length_one(train)
        ),
        "5th nearest neighbour, 128 directions": lambda x: neighbours(scaled(x) @ basis, inner),
    }
    for name, score in scores.items():
        limit = np.quantile(score(own.features[own.fold == 0]), 1 - FALSE_ALARMS)
        cells = [
            f"{100 * (score(features) > limit).mean():.0f}" if len(features) else "–"
            for features in foreign.values()
        ]
        yield f"| {own.name} | {name} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    both = [prepared(source) for source in [*given.sets, "demo"]]
    sets = [own for own, _ in both]
    first = both[0][1]
    spec, compute = first.spec, features_of(first)
    nothing = {kind: compute(pixels) for kind, pixels in made(spec.canvas).items()}
    names = " ".join(Path(source).name for source in given.sets)
    lines = [
        "# Foreign images",
        "",
        f"    python scripts/foreign_images.py {names} -o docs/results/foreign-images.md",
        "",
        f"Frozen features of {spec.name}: {spec.summary}. For each set a model of unlikeness was made of {FOLDS - 1} of {FOLDS} folds of the training set, and met "
        f"images that it had not seen: those of the fold that was left out, and foreign and changed ones. Each fold was left out once. A score above 1 is flagged; the threshold is set, within the "
        f"{FOLDS - 1} folds, for {100 * FALSE_ALARMS:g} % false alarms. Proportions in %, with 95 % intervals over images (Wilson); of foreign images, which meet five models, the mean rate. Test sets were not read.",
        "",
    ]
    for own in sets:
        others = [other for other in sets if other is not own]
        lines += of_set(own, others, nothing, compute, spec.canvas, spec.blocks)
        print("\n".join(lines[-20:]), flush=True)
    kinds = [*[own.name for own in sets], *nothing, *changes(spec.canvas)]
    lines += [
        "## Scores that were compared",
        "",
        f"Detected, in %, where 5 % of the first fold are false alarms; each fitted on at most {RIVALS_OF:,} images of the other four. "
        "Changed images are of the first fold.",
        "",
        f"| set | score | {' | '.join(kinds)} |",
        f"|---|---|{'---:|' * len(kinds)}",
    ]
    for own in sets:
        some = np.flatnonzero(own.fold == 0)[: 2 * CHANGED]
        changed = {
            way: compute(np.stack([np.asarray(change(image)).astype(np.uint8) for image in own.pixels(some)]))
            for way, change in changes(spec.canvas).items()
        }
        of_others = {other.name: other.features if other is not own else own.features[:0] for other in sets}
        found = list(rivals(own, of_others | nothing | changed, spec.blocks))
        lines += found
        print("\n".join(found), flush=True)
    text = "\n".join(lines).rstrip() + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
