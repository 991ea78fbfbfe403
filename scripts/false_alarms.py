"""Type I error of the paired comparisons, and coverage of their intervals, by simulation.

    python scripts/false_alarms.py [--simulations 2000] [-o docs/results/false-alarms.md]    (make false-alarms)

Two models are simulated on the same images many times and compared by `tametail.evaluation.paired.paired_table`, as in
every report. For comparison: the usual paired bootstrap (percentile limits, groups drawn within the class of their
first image), and Newcombe's square-and-add of Wilson limits for each class, combined by MOVER. Exits 1 if the type I error of
the paired test exceeds 6 % where the models are exchangeable, or that of the verdict in any setting. Power: scripts/power.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.evaluation import intervals
from tametail.evaluation.paired import Paired, paired_table
from tametail.predictions.single_label import Predictions

FloatArray = NDArray[np.float64]
MOST = 0.06
SIGNIFICANCE_LEVEL = 0.05

# Test images and recalls of the paper's Table 5 (CE), counts limited to 300: rare classes dominate the variance.
TABLE_5 = np.minimum(
    [93, 2404, 5512, 1164, 6, 70, 4, 11, 5331, 576, 810, 1319, 2001, 5796, 544, 1492, 2448], 300
)
RECALL_5 = np.array([46, 90, 96, 97, 83, 73, 75, 28, 95, 57, 77, 61, 66, 93, 74, 92, 88]) / 100
SKIN = np.array([670, 110, 110, 103, 51, 14, 12])
RECALL_SKIN = np.array([0.95, 0.7, 0.6, 0.5, 0.8, 0.8, 0.9])


@dataclass(frozen=True)
class Drawn:
    """One simulated comparison: target and group (N,), and what each model got right, (S, N)."""

    target: NDArray[np.int64]
    group: NDArray[np.int64]
    a: NDArray[np.bool_]
    b: NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """A simulation with its true difference in balanced accuracy; ``exchangeable`` if a and b have the same distribution."""

    name: str
    truth: float
    draw: Callable[[np.random.Generator], Drawn]
    exchangeable: bool = False


def single_images(
    counts: ArrayLike, a: ArrayLike, b: ArrayLike, agreement: float, replicates: int = 1, each: int = 1
) -> Callable[[np.random.Generator], Drawn]:
    """For a proportion ``agreement`` of the images both models use the same random number.

    Images are independent, or come from patients with ``each`` images of one class (the last patient may have fewer); an image
    then uses its patient's random number in half of all cases.
    """
    numbers = np.asarray(counts)
    target = np.repeat(np.arange(len(numbers)), numbers)
    recall_a, recall_b = np.asarray(a)[target], np.asarray(b)[target]
    of_class = np.concatenate([np.arange(number) // each for number in numbers])
    group = np.unique(target * len(target) + of_class, return_inverse=True)[1]

    def numbers_of(rng: np.random.Generator, *shape: int) -> FloatArray:
        own = rng.random((*shape, len(target)))
        if each == 1:
            return own
        of_patient = rng.random((*shape, int(group.max()) + 1))[..., group]
        return np.where(rng.random(own.shape) < 0.5, of_patient, own)

    def draw(rng: np.random.Generator) -> Drawn:
        shared, same = numbers_of(rng), rng.random(len(target)) < agreement
        luck = np.where(same, shared, numbers_of(rng, 2, replicates))
        return Drawn(target, group, luck[0] < recall_a, luck[1] < recall_b)

    return draw


def patients(count: int, each: int, classes: int, tilt: float) -> Callable[[np.random.Generator], Drawn]:
    """Patients with ``each`` images, mostly of one class; each patient favours a randomly chosen model."""

    def draw(rng: np.random.Generator) -> Drawn:
        share = 0.6 ** np.arange(classes)
        main = rng.choice(classes, count, p=share / share.sum())
        main[:classes] = np.arange(classes)
        target = np.where(
            rng.random((count, each)) < 0.7, main[:, None], rng.integers(0, classes, (count, each))
        )
        skill, favour = rng.beta(4, 2, (count, 1)), tilt * rng.choice([-1, 1], (count, 1))
        right = [
            (rng.random((1, count * each)) < np.clip(skill + side + np.zeros((1, each)), 0, 1).ravel())
            for side in (favour, -favour)
        ]
        return Drawn(target.ravel(), np.repeat(np.arange(count), each), *right)

    return draw


def thirty_points() -> list[Setting]:
    """Equal balanced accuracies, recalls that differ by 30 points in either direction, and a rarest class of 3."""

    def setting(name: str, counts: list[int], signs: list[int], agreement: float, each: int = 1) -> Setting:
        half = 0.15 * np.array(signs)
        return Setting(
            f"{name}, agreement {agreement}",
            0,
            single_images(counts, 0.8 + half, 0.8 - half, agreement, each=each),
        )

    skin = [188, 31, 31, 29, 14, 4, 3]
    turns, opposed = [0, -1, 1, -1, 1, -1, 1], [-1, -1, -1, 0, 1, 1, 1]
    return [
        *(setting("±30 points in turn, 300 images", skin, turns, agreement) for agreement in (0.5, 0.95)),
        *(
            setting("±30 points, common against rare, 300 images", skin, opposed, agreement)
            for agreement in (0.5, 0.95)
        ),
        setting("±30 points, classes of 100, 30 and 3 images", [100, 30, 3], [-1, 0, 1], 0.8),
        setting("±30 points, classes of 100 and 3 images", [100, 3], [-1, 1], 0.8),
        setting("±30 points in turn, patients of 2 images", skin, turns, 0.8, 2),
        setting("±30 points, common against rare, patients of 2 images", skin, opposed, 0.95, 2),
    ]


def settings() -> tuple[list[Setting], list[Setting]]:
    """Settings without a difference, and settings with one."""
    easy = np.array([0.95, 0.9, 0.8, 0.9, 0.95])
    cancels = np.where(np.arange(17) % 2 == 0, 0.04, -0.04) * (np.arange(17) < 16)
    rare = RECALL_5.copy()
    rare[[4, 6, 7]] = [0.6, 0.5, 0.1]
    none = [
        Setting("tail of Table 5, models agree little", 0, single_images(TABLE_5, RECALL_5, RECALL_5, 0.2), True),
        Setting("tail of Table 5, models agree often", 0, single_images(TABLE_5, RECALL_5, RECALL_5, 0.8), True),
        Setting("tail of Table 5, three seeds each", 0, single_images(TABLE_5, RECALL_5, RECALL_5, 0.5, 3), True),
        Setting("classes of 60, 30, 10, 4 and 4 images", 0, single_images([60, 30, 10, 4, 4], easy, easy, 0.3), True),
        Setting("ten classes of 4 images", 0, single_images([4] * 10, [0.7] * 10, [0.7] * 10, 0.3), True),
        Setting("two classes, 100 and 4 images", 0, single_images([100, 4], [0.8, 0.6], [0.8, 0.6], 0.2), True),
        Setting("60 patients, 6 images each, 5 classes", 0, patients(60, 6, 5, 0.15), True),
        Setting("12 patients, 10 images each, 3 classes", 0, patients(12, 10, 3, 0.15), True),
        Setting("tail of Table 5, differences that cancel", 0, single_images(TABLE_5, RECALL_5 + cancels, RECALL_5, 0.5)),
        Setting("100 and 4 images, differences that cancel", 0, single_images([100, 4], [0.9, 0.6], [0.8, 0.7], 0.5)),
        *thirty_points(),
    ]  # fmt: skip
    worse = np.array([0.95, 0.85, 0.7, 0.6, 0.6])
    some = [
        (
            "tail of Table 5, 5 points in every class",
            TABLE_5,
            np.clip(RECALL_5 + 0.05, 0, 0.99),
            RECALL_5,
            0.8,
        ),
        ("tail of Table 5, rare classes only", TABLE_5, RECALL_5, rare, 0.5),
        ("classes of 60, 30, 10, 4 and 4 images", [60, 30, 10, 4, 4], easy, worse, 0.5),
        ("seven skin lesions", SKIN, RECALL_SKIN, RECALL_SKIN - [0, 0.1, 0, -0.1, 0, 0.1, 0], 0.5),
        ("two classes of 50", [50, 50], [0.8, 0.8], [0.7, 0.8], 0.5),
    ]
    there = [
        Setting(name, float(np.mean(np.asarray(a) - np.asarray(b))), single_images(counts, a, b, agreement))
        for name, counts, a, b, agreement in some
    ]
    return none, there


def compared(drawn: Drawn, classes: int, seed: int) -> Paired:
    """The comparison as in every report."""
    image = np.array([f"{index:06}" for index in range(len(drawn.target))])
    group, fold = drawn.group.astype(np.str_), np.zeros(len(image), dtype=np.int64)
    names = tuple(f"c{index}" for index in range(classes))

    def tables(right: NDArray[np.bool_]) -> list[Predictions]:
        predicted = np.where(right, drawn.target, (drawn.target + 1) % classes)
        logits = np.eye(classes, dtype=np.float32)
        return [
            Predictions(image, group, drawn.target, fold, logits[row], names, "softmax") for row in predicted
        ]

    return paired_table({"a": tables(drawn.a), "b": tables(drawn.b)}, resamples=2000, seed=seed).pair(0, 1)


def by_group(values: FloatArray, drawn: Drawn, classes: int) -> FloatArray:
    """(G, C) sums of values (N,)."""
    cells = drawn.group * classes + drawn.target
    groups = int(drawn.group.max()) + 1
    return np.bincount(cells, values, groups * classes).reshape(groups, classes)


def bootstrap(
    a: FloatArray, b: FloatArray, images: FloatArray, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile limits of the difference; identical groups are drawn together."""
    table = np.concatenate([images.argmax(axis=1)[:, None], a - b, images], axis=1)
    patterns, counts = np.unique(table, axis=0, return_counts=True)
    weights = []
    for stratum in np.unique(patterns[:, 0]):
        own = counts[patterns[:, 0] == stratum]
        weights.append(rng.multinomial(own.sum(), own / own.sum(), size=1000))
    difference, n = np.split(np.concatenate(weights, axis=1) @ patterns[:, 1:], 2, axis=1)
    drawn = np.nanmean(np.divide(difference, n, out=np.full_like(n, np.nan), where=n > 0), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def square_and_add(a: FloatArray, b: FloatArray, images: FloatArray) -> tuple[float, float]:
    """Newcombe (1998), method 10, for each class, with effective sample sizes; MOVER over the classes."""
    n, distances = images.sum(axis=0), []
    for hits in (a, b):
        recall = hits.sum(axis=0) / n
        low, high = intervals.wilson(recall, intervals.effective_sample_size(hits, images))
        distances.append((recall, recall - low, high - recall, intervals.group_residuals(hits, images)))
    (p, p_below, p_above, r), (q, q_below, q_above, s) = distances
    scale = np.sqrt((r**2).sum(axis=0) * (s**2).sum(axis=0))
    phi = np.divide((r * s).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)
    spread = np.sqrt(p * (1 - p) * q * (1 - q))
    step = np.divide(0.5 / n, spread, out=np.zeros_like(spread), where=spread > 0)
    phi = np.where(phi > 0, np.maximum(phi - step, 0), phi)
    below = np.sqrt(np.maximum(p_below**2 - 2 * phi * p_below * q_above + q_above**2, 0))
    above = np.sqrt(np.maximum(p_above**2 - 2 * phi * p_above * q_below + q_below**2, 0))
    # From -1..1 to 0..1, where MOVER's function works, and back.
    low, high = intervals.mover_mean((1 + p - q) / 2, (1 + p - q - below) / 2, (1 + p - q + above) / 2, r - s)
    return float(2 * low - 1), float(2 * high - 1)


def simulate(setting: Setting, simulations: int, seed: int) -> dict[str, float]:
    """Proportions of simulations that are significant by each method and covered by each interval, and mean widths."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(simulations):
        drawn = setting.draw(rng)
        classes = int(drawn.target.max()) + 1
        found = compared(drawn, classes, index)
        hits = [by_group(right.mean(axis=0), drawn, classes) for right in (drawn.a, drawn.b)]
        images = by_group(np.ones(len(drawn.target)), drawn, classes)
        limits = {
            "ours": (found.difference.low, found.difference.high),
            "bootstrap": bootstrap(*hits, images, rng),
            "newcombe": square_and_add(*hits, images),
        }
        row: dict[str, float] = {
            "flips": found.p <= SIGNIFICANCE_LEVEL,
            "verdict": found.verdict != "no significant difference",
        }
        for name, (low, high) in limits.items():
            row[f"{name} sees"] = not low <= 0 <= high
            row[f"{name} covers"] = low <= setting.truth <= high
            row[f"{name} width"] = high - low
            row[f"{name} silent"] = found.p <= SIGNIFICANCE_LEVEL and low <= 0 <= high
        rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def main() -> int:
    """Simulate, print, write; return 1 if a type I error is too high."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("-o", "--out", type=Path)
    chosen = parser.parse_args()
    none, there = settings()
    start = time.monotonic()
    results = [(s, simulate(s, chosen.simulations, i)) for i, s in enumerate(none + there)]
    text = report(results, len(none), chosen.simulations, time.monotonic() - start)
    print(text)
    if chosen.out:
        chosen.out.write_text(text)
    alarms = [found["verdict"] for _, found in results[: len(none)]]
    alarms += [found["flips"] for setting, found in results if setting.exchangeable]
    return int(max(alarms) > MOST)


def report(
    results: list[tuple[Setting, dict[str, float]]], nothing: int, simulations: int, seconds: float
) -> str:
    """The results as Markdown."""
    lines = [
        "# Paired comparisons: type I error and coverage",
        "",
        f"    python scripts/false_alarms.py --simulations {simulations}    (make false-alarms)",
        "",
        f"Each line is {simulations:,} simulated comparisons of two models on the same images, at a nominal 5 %; the standard",
        f"error of 5 % is {percent((0.05 * 0.95 / simulations) ** 0.5)} points. Took {seconds / 60:.0f} min on one core.",
        "",
        "## No difference: significant results, %",
        "",
        "| setting | paired bootstrap | sign-flip test | verdict: test and interval |",
        "|---|---:|---:|---:|",
    ]
    for setting, found in results[:nothing]:
        lines.append(
            f"| {setting.name} | {percent(found['bootstrap sees'])} | {percent(found['flips'])} | {percent(found['verdict'])} |"
        )
    lines += [
        "",
        "In the first eight settings the models are exchangeable within a group, so the sign-flip permutation",
        "test can exceed its level only by simulation error. In the others the models differ in several classes",
        "while the balanced accuracies are equal. Then the test is approximate, and fails if a class of three or four images has to",
        "outweigh a common one: the few often show no difference, and the test only uses the common class. This is",
        "why a verdict requires both the test and the interval. The verdict may exceed 6 % nowhere.",
        "",
        "## Intervals of the difference: coverage in %, and width in points",
        "",
        "| setting | true difference, points | ours | bootstrap | square-and-add |",
        "|---|---:|---:|---:|---:|",
    ]
    for setting, found in results:
        cells = [
            f"{percent(found[f'{name} covers'])} ({percent(found[f'{name} width'])})"
            for name in ("ours", "bootstrap", "newcombe")
        ]
        lines.append(f"| {setting.name} | {percent(setting.truth)} | {' | '.join(cells)} |")
    lines += [
        "",
        "Ours: a score interval with pseudo-counts of discordant images (`evaluation/paired.py`). Square-and-add: Newcombe's",
        "interval for each class, combined by MOVER.",
        "",
        "## A difference: power, %",
        "",
        "| setting | sign-flip test | verdict: test and interval | test and square-and-add |",
        "|---|---:|---:|---:|",
    ]
    for setting, found in results[nothing:]:
        both = [percent(found["flips"] - found[f"{name} silent"]) for name in ("ours", "newcombe")]
        lines.append(f"| {setting.name} | {percent(found['flips'])} | {' | '.join(both)} |")
    lines += ["", "For differences of 5 points, and compared with an oracle: [power](power.md)."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
