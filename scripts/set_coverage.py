"""Coverage of prediction sets by simulation, with patients as groups.

    python scripts/set_coverage.py [--simulations 1000] [--seed 0] [-o docs/results/prediction-sets.md]

Patients have 1 to 12 images, whose difficulty they share, and those with many images are harder. Half of the patients have images
of a second class. A set is evaluated on one random image of a class of each new patient that has one. Exits 1 if a coverage lies below the
required one by more than its binomial interval, or a class that is too rare is not named.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tametail.evaluation.conformal import (
    ScoreDistribution,
    class_thresholds,
    needed_groups,
    prediction_sets,
    prevalence_thresholds,
    score_distributions,
    sets_of,
)
from tametail.predictions.single_label import Predictions

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
NAMES = ("common", "frequent", "uncommon", "rare", "very rare")
PATIENTS = (300, 120, 50, 25, 6)  # by their first class, for thresholds
NEW = 5  # patients of each class in each study, for coverage: few, as they share its thresholds
FOLDS = 5


def draw(rng: np.random.Generator, patients: tuple[int, ...]) -> Predictions:
    """Images of patients with probabilities of a model; half of the patients of the first three classes have images of a second one."""
    first = np.repeat(np.arange(len(NAMES)), patients)
    images = rng.integers(1, 13, len(first))
    ease = 3.5 - 0.25 * images + rng.normal(0, 0.8, len(first))
    group = np.repeat(np.arange(len(first)), images)
    target = first[group]
    other = rng.integers(0, 3, len(first))
    mixed = (rng.random(len(group)) < 0.4) & (rng.random(len(first)) < 0.5)[group] & (target < 3)
    target = np.where(mixed, other[group], target)
    z = rng.normal(0, 0.8, (len(group), len(NAMES)))
    z[np.arange(len(group)), target] += ease[group]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    image = np.char.zfill(np.arange(len(group)).astype(np.str_), 6)
    names = np.char.zfill(group.astype(np.str_), 6)
    logits = np.log(p).astype(np.float32)
    return Predictions(image, names, target, group % FOLDS, logits, NAMES, "softmax", p.astype(np.float32))


def as_single_images(table: Predictions) -> Predictions:
    """The same images, each as a group of its own."""
    return Predictions(
        table.image, table.image, table.target, table.fold, table.logits, NAMES, "softmax", table.posterior
    )


def covered(
    table: Predictions, thresholds: FloatArray, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, IntArray]:
    """Of one random image of each of 5 patients with each class: the class, whether its set has it, and the size of the set."""
    rows = rng.permutation(len(table))
    keys = np.char.add(np.char.add(table.group, " "), table.target.astype(np.str_))
    rows = rows[np.unique(keys[rows], return_index=True)[1]]
    rows = rng.permutation(rows)
    rows = np.concatenate([rows[table.target[rows] == index][:NEW] for index in range(len(NAMES))])
    sets = sets_of(table.probabilities_of(rows), thresholds)
    target = table.target[rows]
    return target, sets[np.arange(len(rows)), target].astype(np.float64), sets.sum(axis=1)


class Tally:
    """Sets of simulated images by class: how many, how many have the class, and their sizes."""

    def __init__(self) -> None:
        self.n = np.zeros(len(NAMES), dtype=np.int64)
        self.hits, self.sizes = np.zeros((2, len(NAMES)))

    def add(self, target: IntArray, hit: FloatArray, size: IntArray) -> None:
        self.n += np.bincount(target, minlength=len(NAMES))
        self.hits += np.bincount(target, hit, len(NAMES))
        self.sizes += np.bincount(target, size, len(NAMES))

    def cells(self, index: int) -> tuple[str, str]:
        share = self.hits[index] / self.n[index]
        return f"{100 * share:.1f}", f"{self.sizes[index] / self.n[index]:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    even = np.full(len(NAMES), 1 / len(NAMES))
    lines = [
        "# Coverage of prediction sets",
        "",
        f"    python scripts/set_coverage.py --simulations {given.simulations} --seed {given.seed} -o docs/results/prediction-sets.md",
        "",
        f"{given.simulations} simulated studies for each required coverage. Thresholds are from the images of {sum(PATIENTS)} patients with 1 to 12 "
        "images each, of shared difficulty; patients with many images are harder, and half of those of the first three classes "
        f"have images of a second one. Coverage is that of one random image of the class of a new patient who has one, {NEW} patients of each class in each study. *By groups*: each patient has the same weight, as tametail does. *By images*: each image is taken as independent. *Over all "
        "images*: prevalence-adjusted sets for an even prevalence, whose mean over the classes must have the required coverage. *Reported*: what "
        "the report of the study says of the class, by thresholds from other folds, mean over the studies. "
        "Thresholds are scores of whole patients, so that a class of K patients may have up to 1 / (K + 1) more than required.",
    ]
    kept = True
    for required in (0.8, 0.9, 0.95):
        found, said = one_coverage(rng, required, given.simulations, even)
        lines += found
        kept &= said
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0 if kept else 1


def one_coverage(
    rng: np.random.Generator, required: float, simulations: int, even: FloatArray
) -> tuple[list[str], bool]:
    """The lines of one required coverage, and whether it is kept."""
    by_group, by_image, over_all = Tally(), Tally(), Tally()
    reported, inside = np.zeros((2, len(NAMES)))
    named = np.zeros(len(NAMES), dtype=np.int64)
    groups = np.zeros(len(NAMES))
    for _ in range(simulations):
        table, new = draw(rng, PATIENTS), draw(rng, PATIENTS)
        of_groups: tuple[ScoreDistribution, ...] = score_distributions([table])
        of_images = score_distributions([as_single_images(table)])
        by_group.add(*covered(new, class_thresholds(of_groups, required), rng))
        by_image.add(*covered(new, class_thresholds(of_images, required), rng))
        over_all.add(*covered(new, prevalence_thresholds(of_groups, required, even), rng))
        study = prediction_sets([table], required)
        reported += [one.coverage.value for one in study.classes]
        inside += [one.coverage.low <= required <= one.coverage.high for one in study.classes]
        named += [one.too_rare for one in study.classes]
        groups += [one.groups for one in study.classes]
    needed = needed_groups(required)
    lines = [
        "",
        f"## Required: {100 * required:g} %, for which a class needs {needed} patients",
        "",
        "| Class | Patients, mean | n | By groups, % | Binomial interval of the required, % | Set size | By images, % | Reported, % | Too rare, named in |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    kept = True
    for index, name in enumerate(NAMES):
        n = int(by_group.n[index])
        low, high = stats.binom.ppf([0.025, 0.975], n, required) / n
        coverage, size = by_group.cells(index)
        rare = groups[index] / simulations < needed
        good = by_group.hits[index] / n >= low and named[index] == simulations * rare
        kept &= bool(good)
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        lines.append(
            f"| {name} | {groups[index] / simulations:.0f} | {n:,} | {coverage} | {interval} | {size} | {by_image.cells(index)[0]} | "
            f"{100 * reported[index] / simulations:.1f} | {named[index]} of {simulations} |"
        )
    total = over_all.hits.sum() / over_all.n.sum()
    low = stats.binom.ppf(0.025, int(over_all.n.sum()), required) / over_all.n.sum()
    kept &= bool(total >= low)
    of_each = ", ".join(f"{name} {over_all.cells(index)[0]}" for index, name in enumerate(NAMES))
    lines += [
        "",
        f"Over all images at an even prevalence: coverage {100 * total:.1f} %, mean set size "
        f"{over_all.sizes.sum() / over_all.n.sum():.2f} ({of_each}); class-conditional sets have {by_group.sizes.sum() / by_group.n.sum():.2f} classes.",
    ]
    return lines, kept


if __name__ == "__main__":
    sys.exit(main())
