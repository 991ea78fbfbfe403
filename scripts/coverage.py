"""Coverage of the 95 % intervals: by exact enumeration for single proportions, otherwise by simulation.

    python scripts/coverage.py [--simulations 2000] [--seed 0] [-o docs/results/coverage.md]

Exits 1 if a coverage is below the required one. Standard error of a coverage near 0.95: 0.5 points at 2000 simulations,
0.8 at 800.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tametail.evaluation import Evaluation, evaluate, intervals, metrics, ranking_metrics
from tametail.evaluation.intervals import Estimate, proportions
from tametail.evaluation.net_benefit import decision_curve
from tametail.evaluation.subgroup_contrasts import subgroup_contrasts
from tametail.predictions.single_label import Predictions

FloatArray = NDArray[np.float64]

# Table 5 of the ALPA paper (Munich bone marrow smears): training images, the test images that its recalls fit, and the
# recalls in per cent. Classes: BAS BLA EBO EOS FGC HAC KSC LYI LYT MMZ MON MYB NGB NGS PEB PLM PMO.
TRAIN = (348, 9569, 21883, 4719, 41, 339, 38, 54, 20911, 2479, 3230, 5238, 7967, 23628, 2196, 6137, 9546)
TEST = np.array([93, 2404, 5512, 1164, 6, 70, 4, 11, 5331, 576, 810, 1319, 2001, 5796, 544, 1492, 2448])
# fmt: off
TABLE_5 = {
    "ALPA": (54.84, 85.94, 95.94, 97.34, 83.33, 58.57, 100, 36.36, 94.13, 39.58, 74.81, 68.76, 67.82, 94.24, 75.55, 93.9, 85.58),
    "ASL": (55.91, 87.06, 96.23, 97.25, 66.67, 67.14, 75, 36.98, 94.92, 36.98, 79.38, 70.2, 69.42, 92.86, 77.76, 91.49, 88.4),
    "CE": (46.24, 89.93, 96.21, 97.34, 83.33, 72.86, 75, 27.77, 94.75, 56.6, 76.91, 61.26, 66.12, 93.32, 73.71, 92.16, 88.19),
    "Focal": (51.61, 87.52, 96.34, 96.99, 50, 71.43, 100, 9.09, 94.62, 58.33, 79.01, 73.09, 72.06, 93.65, 78.68, 91.69, 84.03),
}
# fmt: on
EASY = np.array([4, 5, 6, 8, 11, 15, 20])  # images of easy rare classes
RECALLS = np.round(np.arange(0.05, 0.951, 0.005), 3)


class Row(NamedTuple):
    """One coverage, in 0..1, what it must at least and at most be, and those of plainer intervals others it."""

    what: str
    coverage: float
    required: tuple[float, float] | None = None
    others: tuple[float, ...] = ()

    @property
    def kept(self) -> bool:
        return self.required is None or self.required[0] <= self.coverage <= self.required[1]


def held(low: FloatArray, high: FloatArray, truth: FloatArray | float) -> FloatArray:
    return (np.asarray(low) <= truth) & (truth <= np.asarray(high))


# ---- one share


def wilson_rows() -> Iterable[Row]:
    """Exact: all outcomes of the binomial distribution, for recalls from 0.05 to 0.95."""
    for n in (4, 6, 11, 20, 50, 100, 200, 500, 1000, 5000):
        successes = np.arange(n + 1)
        inside = held(*(limit[:, None] for limit in intervals.wilson(successes / n, n)), RECALLS)
        exact = (stats.binom.pmf(successes[:, None], n, RECALLS) * inside).sum(axis=0)
        for name, value, at_20 in (("mean", exact.mean(), (0.94, 0.96)), ("least", exact.min(), (0.90, 1.0))):
            required = at_20 if n == 20 else (0.93, 0.97) if n >= 200 else None
            yield Row(f"n = {n}, {name} over the recalls", float(value), required)


def clustered_rows(rng: np.random.Generator, simulations: int) -> Iterable[Row]:
    """Beta-binomial images of mean recall 0.7: clustered, and Wilson ignoring the groups."""
    for groups, images, correlation in ((12, 6, 0.4), (40, 5, 0.4), (40, 5, 0.1), (200, 10, 0.2)):
        total = 1 / correlation - 1
        skill = rng.beta(0.7 * total, 0.3 * total, (groups, simulations))
        right, trials = rng.binomial(images, skill), np.full((groups, simulations), images)
        share = right.mean(axis=0) / images
        found = proportions(share, right, trials, trials.sum(axis=0))
        plain = held(*intervals.wilson(share, groups * images), 0.7).mean()
        text = f"{groups} groups of {images} images, correlation {correlation}"
        yield Row(text, float(held(found.low, found.high, 0.7).mean()), (0.91, 1.0), (float(plain),))


# ---- balanced accuracy


def mean_recall(
    rng: np.random.Generator, simulations: int, n: NDArray[np.int64], recall: FloatArray
) -> tuple[float, tuple[float, ...]]:
    """Coverage of the mean recall by our limits, by MOVER on Wilson's alone, and by the percentile bootstrap."""
    share = rng.binomial(n, recall, (simulations, len(n))) / n
    low, high = intervals.wilson(share, n)
    rows = list(zip(share, low, high, strict=True))
    ours = np.array([intervals.mean_of_proportions(*row, n) for row in rows])
    mover = np.array([intervals.mover_mean(*row) for row in rows])
    drawn = [
        np.quantile((rng.binomial(n, row, (1000, len(n))) / n).mean(axis=1), [0.025, 0.975]) for row in share
    ]
    truth = recall.mean()
    ours_held, *others = (float(held(*limits.T, truth).mean()) for limits in (ours, mover, np.array(drawn)))
    return ours_held, tuple(others)


def table_5_rows(rng: np.random.Generator, simulations: int) -> Iterable[Row]:
    """Recalls as printed, and, as 4 of 4 right need not mean that all are, drawn in: (right + 1) / (n + 2)."""
    rarest = np.asarray(TRAIN) <= sorted(TRAIN)[4]
    for loss, printed in TABLE_5.items():
        recall = np.array(printed) / 100
        for name, truth in (("as printed", recall), ("drawn in", (recall * TEST + 1) / (TEST + 2))):
            for classes, chosen in (("17 classes", np.full(len(TEST), True)), ("the 5 rarest", rarest)):
                ours, others = mean_recall(rng, simulations, TEST[chosen], truth[chosen])
                yield Row(f"{loss}, {classes}, recalls {name}", ours, (0.91, 1.0), others)


def easy_rows(rng: np.random.Generator, simulations: int) -> Iterable[Row]:
    recalls = {f"{level}": np.full(len(EASY), level) for level in (0.9, 0.93, 0.95, 0.97, 0.99)}
    recalls |= {
        "0.99 to 0.9, the rarest best": np.linspace(0.99, 0.9, len(EASY)),
        "0.9 to 0.99, the rarest worst": np.linspace(0.9, 0.99, len(EASY)),
    }
    for name, recall in recalls.items():
        sizes = {"7 classes of 4 to 20 images": EASY, "3 of 4 to 6": EASY[:3]}
        if (recall == recall[0]).all():
            sizes |= {"17 of 5": np.full(17, 5), "17 of 20": np.full(17, 20)}
        for classes, n in sizes.items():
            ours, others = mean_recall(rng, simulations, n, np.resize(recall, len(n)))
            yield Row(f"{classes}, recall {name}", ours, (0.91, 1.0), others)
    ours, others = mean_recall(
        rng, simulations, np.array([4, 8, 20, 600, 900]), np.array([0.97, 0.95, 0.93, 0.9, 0.95])
    )
    yield Row("4, 8, 20, 600 and 900 images, recall 0.97 to 0.9", ours, (0.91, 1.0), others)


# ---- ranks


def rank_rows(rng: np.random.Generator, simulations: int) -> Iterable[Row]:
    """Normal scores, shifted so that the AUROC is known; the average precision of 400 times as many images is its truth."""
    for positives, negatives in ((5, 200), (20, 200), (100, 1000)):
        for auroc in (0.7, 0.9, 0.98):
            shift = np.sqrt(2) * stats.norm.ppf(auroc)
            positive = np.arange(positives + negatives) < positives
            many = np.repeat(positive, 400)
            precision = ranking_metrics.average_precision(many, rng.normal(size=len(many)) + shift * many)
            inside = [_rank_held(rng, positive, shift, (auroc, precision)) for _ in range(simulations)]
            text = f"{positives} against {negatives}, AUROC {auroc}"
            for name, coverage in zip(("AUROC", "average precision"), np.mean(inside, axis=0), strict=True):
                yield Row(f"{name}: {text}", float(coverage))


def _rank_held(
    rng: np.random.Generator, positive: NDArray[np.bool_], shift: float, truth: tuple[float, float]
) -> list[bool]:
    placed, precision = ranking_metrics.placements_and_precision(
        positive, rng.normal(size=len(positive)) + shift * positive
    )
    group, kinds = np.arange(len(positive)), np.array([positive.sum(), (~positive).sum()])
    residuals = ranking_metrics.auroc_residuals(positive, placed, group)[:, None]
    limits = ranking_metrics.auroc_limits(np.array([placed[positive].mean()]), residuals, *kinds[:, None])
    at = proportions(
        np.array([precision.mean()]), precision[:, None], np.ones((len(precision), 1)), kinds[:1]
    )
    return [bool(held(*limits, truth[0])[0]), bool(held(at.low, at.high, truth[1])[0])]


# ---- decisions of all classes


def decision_rows(rng: np.random.Generator, simulations: int) -> Iterable[Row]:
    """Whole evaluations. Mistakes go to the neighbouring classes or to all; the class sizes are those of the study."""
    cases = {
        "5 classes of 5 to 120, recall 0.9 to 0.98": ([120, 60, 20, 8, 5], [0.98, 0.95, 0.95, 0.9, 0.97]),
        "5 classes of 12 to 300, recall 0.4 to 0.9": ([300, 120, 60, 30, 12], [0.9, 0.7, 0.6, 0.5, 0.4]),
    }
    for text, (counts, recalls) in cases.items():
        right, n = np.array(recalls), np.array(counts)
        place = np.arange(len(n))
        near = np.where(place[:, None] == place, 0.0, 0.4 ** abs(place[:, None] - place))
        confusion = np.diag(right) + near * ((1 - right) / near.sum(axis=1))[:, None]
        population = confusion * n[:, None]
        results = [
            evaluate([table], class_order=table.class_names, resamples=500, seed=index)
            for index in range(simulations)
            for table in [simulated(rng, confusion, n)]
        ]
        truths = {
            "macro_f1": metrics.macro_f1(population),
            "mcc": metrics.mcc(population),
            "kappa": metrics.quadratic_kappa(population),
            "balanced_accuracy": metrics.balanced_accuracy(population),
        }
        for name, truth in truths.items():
            yield Row(f"{name.replace('_', ' ')}: {text}", covered(results, name, float(truth)))
        f1 = np.array([[(one.low, one.high) for one in result.by_class("f1")] for result in results])
        per_class = held(f1[..., 0], f1[..., 1], metrics.f1(population)).mean(axis=0)
        yield Row(f"F1, least of the classes: {text}", float(per_class.min()))


def covered(results: list[Evaluation], name: str, truth: float) -> float:
    limits = np.array([(result[name].low, result[name].high) for result in results])
    return float(held(*limits.T, truth).mean())


def simulated(rng: np.random.Generator, confusion: FloatArray, counts: NDArray[np.int64]) -> Predictions:
    target = np.repeat(np.arange(len(counts)), counts)
    predicted = (rng.random(len(target))[:, None] > confusion.cumsum(axis=1)[target]).sum(axis=1)
    image = np.array([f"{index:05}" for index in range(len(target))])
    logits = np.eye(len(counts), dtype=np.float32)[np.minimum(predicted, len(counts) - 1)]
    names = tuple(f"class {index}" for index in range(len(counts)))
    return Predictions(image, image, target, np.zeros_like(target), logits, names, "softmax")


# ---- net benefit


THRESHOLDS = (0.02, 0.1, 0.3, 0.6)


def screened(
    rng: np.random.Generator, groups: int, images: int
) -> tuple[NDArray[np.bool_], FloatArray, NDArray[np.int64]]:
    """Images of a class of prevalence 0.1, with probabilities that are nearly calibrated, and half of the variance between groups."""
    group = np.repeat(np.arange(groups), images)
    positive = (rng.random(groups) < 0.1)[group]
    score = np.sqrt(0.5) * (rng.normal(size=groups)[group] + rng.normal(size=len(group))) + 1.5 * positive
    return positive, 1 / (1 + np.exp(-(np.log(1 / 9) + 1.5 * score - 1.5**2 / 2))), group


def net_benefit_rows(rng: np.random.Generator, simulations: int) -> Iterable[Row]:
    """The truth is that of 1,000,000 images."""
    positive, p, _ = screened(rng, 1_000_000, 1)
    odds = np.array(THRESHOLDS) / (1 - np.array(THRESHOLDS))
    flagged = p >= np.array(THRESHOLDS)[:, None]
    truth = (flagged & positive).mean(axis=1) - odds * (flagged & ~positive).mean(axis=1)
    treat_all = positive.mean() - odds * (1 - positive.mean())
    for groups, images in ((100, 1), (400, 1), (60, 4), (200, 4)):
        inside = np.zeros((3, len(THRESHOLDS)))
        for _ in range(simulations):
            of_class, p, group = screened(rng, groups, images)
            table = two_classes(of_class, p, group)
            for place, point in enumerate(decision_curve([table], 1, THRESHOLDS).points):
                found = point.model, point.treat_all, point.over_treat_all
                truths = truth[place], treat_all[place], truth[place] - treat_all[place]
                inside[:, place] += [holds(each, true) for each, true in zip(found, truths, strict=True)]
        text = f"{groups} groups of {images} image{'s' * (images > 1)}"
        for place, threshold in enumerate(THRESHOLDS):
            yield Row(f"at {threshold}: {text}", inside[0, place] / simulations, (0.91, 1.0))
            yield Row(
                f"over treating all, at {threshold}: {text}",
                inside[2, place] / simulations,
                (0.91, 1.0),
            )
        yield Row(f"treating all: {text}", inside[1, 0] / simulations, (0.91, 1.0))


def two_classes(positive: NDArray[np.bool_], p: FloatArray, group: NDArray[np.int64]) -> Predictions:
    image = np.array([f"{index:05}" for index in range(len(p))])
    both = np.stack([1 - p, p], axis=1).astype(np.float32)
    target = positive.astype(np.int64)
    return Predictions(
        image, group.astype(str), target, np.zeros_like(target), np.log(both), ("no", "yes"), "softmax", both
    )


def holds(estimate: Estimate, truth: float) -> bool:
    # The gap of equal subgroups is 0 but for rounding.
    return bool(estimate.low - 1e-9 <= truth <= estimate.high + 1e-9)


# ---- subgroups


def subgroup_rows(rng: np.random.Generator, simulations: int) -> Iterable[Row]:
    """Three classes of recall 0.9, 0.7 and 0.6, equal in all subgroups, in all but one, or spread over 20 points."""
    cases = list(subgroup_cases())
    for (text, recalls, n, images), own in zip(cases, rng.spawn(len(cases)), strict=True):
        yield from subgroup_case(own, simulations, recalls, n, images, text)


def subgroup_cases() -> Iterable[tuple[str, FloatArray, NDArray[np.int64], int]]:
    """In words; recalls (K, C); groups (K, C); and images of each group."""
    sizes = {
        "2 of 280 groups": [[200, 60, 20]] * 2,
        "4 of 115 groups": [[80, 25, 10]] * 4,
        "6 of 42 groups": [[30, 8, 4]] * 6,
        "500, 88 and 44 groups": [[400, 100, 40], [60, 20, 8], [30, 10, 4]],
    }
    for text, counts in sizes.items():
        n, many = np.array(counts), len(counts)
        shifts = {
            "equal": np.zeros(many),
            "one 10 points worse": np.where(np.arange(many) == many - 1, -0.1, 0.0),
            "spread over 20 points": np.linspace(0, -0.2, many),
        }
        for images in (1, 4):
            for name, shift in shifts.items():
                recalls = np.array([0.9, 0.7, 0.6]) + shift[:, None]
                yield f"{text} of {images} image{'s' * (images > 1)}, {name}", recalls, n, images


def subgroup_case(
    rng: np.random.Generator,
    simulations: int,
    recalls: FloatArray,
    n: NDArray[np.int64],
    images: int,
    text: str,
) -> Iterable[Row]:
    gap, gaps = float(np.ptp(recalls.mean(axis=1))), 0
    contrasts: list[bool] = []
    significant: list[bool] = []
    for _ in range(simulations):
        table, values = with_subgroups(rng, recalls, n, images)
        found = subgroup_contrasts([table], values, "x", resamples=200, seed=int(rng.integers(2**31)))
        assert found.gap is not None
        gaps += holds(found.gap.gap, gap)
        for one in found.contrasts:
            own = int(one.value)
            rest = np.arange(len(n)) != own
            of_rest = (recalls * n)[rest].sum(axis=0) / n[rest].sum(axis=0)
            contrasts.append(holds(one.difference, float((recalls[own] - of_rest).mean())))
        significant.append(any(one.p_holm <= 0.05 for one in found.contrasts))
    yield Row(f"worst-group gap: {text}", gaps / simulations, (0.91, 1.0))
    yield Row(f"difference from the rest: {text}", float(np.mean(contrasts)), (0.90, 1.0))
    if gap == 0:
        # Not significant in 95 of 100.
        yield Row(f"no subgroup significant by Holm: {text}", 1 - float(np.mean(significant)), (0.90, 1.0))


def with_subgroups(
    rng: np.random.Generator, recalls: FloatArray, n: NDArray[np.int64], images: int
) -> tuple[Predictions, NDArray[np.str_]]:
    """Groups n (K, C) of so many images, correct with these recalls (K, C), at a correlation of 0.4 within a group."""
    subgroup, of_class = (np.repeat(of.ravel(), n.ravel()) for of in np.indices(n.shape))
    mean = recalls[subgroup, of_class]
    skill = rng.beta(1.5 * mean, 1.5 * (1 - mean)) if images > 1 else mean
    group = np.repeat(np.arange(len(mean)), images)
    target, classes = of_class[group], n.shape[1]
    predicted = np.where(rng.random(len(group)) < skill[group], target, (target + 1) % classes)
    image = np.array([f"{index:05}" for index in range(len(group))])
    names = tuple(f"class {index}" for index in range(classes))
    logits = np.eye(classes, dtype=np.float32)[predicted]
    table = Predictions(image, group.astype(str), target, np.zeros_like(target), logits, names, "softmax")
    return table, subgroup[group].astype(str)


# ---- the page


def table(title: str, others: tuple[str, ...], rows: Iterable[Row]) -> tuple[str, bool]:
    """A section of the page, and whether all its requirements are met."""
    head = ["", "coverage, %", "required, %", *others]
    lines, kept = [f"## {title}", "", f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)], True
    for row in rows:
        required = (
            "" if row.required is None else f"{row.required[0]:.0%}–{row.required[1]:.0%}".replace("%", "")
        )
        required = required.replace("–100", " or more")
        cells = [row.what, f"{100 * row.coverage:.1f}" + ("" if row.kept else " **missed**"), required]
        cells += [f"{100 * coverage:.1f}" for coverage in row.others]
        lines.append(f"| {' | '.join(cells)} |")
        print(*cells, sep="  |  ", flush=True)
        kept &= row.kept
    return "\n".join(lines) + "\n", kept


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    rng, many = np.random.default_rng(given.seed), given.simulations
    others = ("MOVER alone, %", "percentile bootstrap, %")
    sections = [
        table("Recalls: Wilson, exact, recalls 0.05 to 0.95", (), wilson_rows()),
        table(
            "Images in groups: Wilson with the effective sample size",
            ("as if single, %",),
            clustered_rows(rng, many),
        ),
        table("Balanced accuracy: Table 5 of the paper", others, table_5_rows(rng, many)),
        table("Balanced accuracy: easy rare classes", others, easy_rows(rng, many)),
        table("AUROC (DeLong) and average precision", (), rank_rows(rng, many)),
        table("Decisions of all classes", (), decision_rows(rng, max(many * 2 // 5, 1))),
        table("Net benefit", (), net_benefit_rows(np.random.default_rng([given.seed, 1]), max(many // 4, 1))),
        table("Subgroups", (), subgroup_rows(np.random.default_rng([given.seed, 2]), max(many // 10, 1))),
    ]
    command = f"python scripts/coverage.py --simulations {many} --seed {given.seed}    (make coverage)"
    note = (
        "How often the 95 % intervals contain the true value. Single proportions are enumerated exactly; the rest are simulations "
        f"({many}; {many * 2 // 5} of whole evaluations, {many // 4} of net benefit and {many // 10} of subgroups), with a standard "
        f"error of {100 * np.sqrt(0.95 * 0.05 / many):.1f} points near 95 %, of "
        f"{100 * np.sqrt(0.95 * 0.05 / (many // 10)):.1f} for subgroups. The interval of the worst-group gap is conservative: the "
        "best and the worst subgroup are selected."
    )
    page = "\n".join(
        [f"# Coverage of the intervals\n\n    {command}\n\n{note}\n", *(text for text, _ in sections)]
    )
    if given.output:
        given.output.write_text(page, encoding="utf-8")
    return 0 if all(kept for _, kept in sections) else 1


if __name__ == "__main__":
    sys.exit(main())
