"""All statistics of a large study: 150,000 predictions × 17 classes × 20 runs (4 losses × 5 seeds), time and peak memory.

    python benchmarks/evaluation.py [--resamples 10000] [--groups 0] [--quick] [-o docs/results/evaluation.md]

Compared with the usual implementation, a loop over resamples that recomputes every statistic, with plain NumPy and with
scikit-learn. The loops are timed on one run and 20 resamples, and extrapolated to all runs and resamples; they compute no tests,
no calibration and no report. Without --groups every image is its own group, the slowest case: no sums per group can be precomputed.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray
from sklearn import metrics as sk

from tametail.evaluation import Evaluation, evaluate
from tametail.evaluation.calibration import Calibration, calibration_of
from tametail.evaluation.paired import PairedTable, paired_table
from tametail.predictions.single_label import Predictions, scores
from tametail.report.study.comparisons import compare_classes, compare_runs
from tametail.report.study.evaluation_results import KIND
from tametail.report.study.page import results_html
from tametail.report.study.results import MethodResults, SetCounts, StudyResults
from tametail.report.writers.csv import results_csv
from tametail.report.writers.markdown import results_markdown

# Training images of the 17 cell classes of the Munich bone marrow smears, as Table 5 of the ALPA paper counts them.
TRAIN = (348, 9569, 21883, 4719, 41, 339, 38, 54, 20911, 2479, 3230, 5238, 7967, 23628, 2196, 6137, 9546)
SKILL = {"ce": 3.0, "focal": 2.95, "asl": 3.02, "alpa": 3.05}
SECONDS, GIGABYTES = 60.0, 2.0  # what all stages may take
LOOP_RESAMPLES = 20  # resamples of the loops

Tables = dict[str, list[Predictions]]  # the runs of each loss, one per seed
Found = dict[str, Any]  # results of the earlier stages, by their names


class Stage(NamedTuple):
    """One part of the work on all tables."""

    name: str
    work: Callable[[Tables, int, Found], object]


def evaluations(tables: Tables, resamples: int, _: Found) -> dict[str, Evaluation]:
    """Every metric of every loss with its interval."""
    return {
        loss: evaluate(
            replicates, train_counts=TRAIN, class_order=replicates[0].class_names, resamples=resamples
        )
        for loss, replicates in tables.items()
    }


def calibrations(tables: Tables, _: int, __: Found) -> dict[str, Calibration]:
    """Reliability, Brier score, log-loss and calibration error of every loss."""
    return {loss: calibration_of(replicates) for loss, replicates in tables.items()}


def comparisons(tables: Tables, resamples: int, _: Found) -> PairedTable:
    """Every two losses on the same images."""
    return paired_table(tables, resamples=resamples)


def class_comparisons(tables: Tables, _: int, __: Found) -> object:
    """The best compared with each other one, class by class (10,000 resamples where they cannot be listed)."""
    return compare_classes(tables)


def run_comparisons(tables: Tables, _: int, __: Found) -> object:
    """The best compared with each other one, over repeats and folds."""
    return compare_runs(tables, len(next(iter(tables.values()))[0]))


def report(tables: Tables, _: int, found: Found) -> str:
    """The page and the tables of results, from what the other stages computed."""
    table = next(iter(tables.values()))[0]
    images = dict(zip(table.class_names, np.bincount(table.target).tolist(), strict=True))
    settings = {
        "kind": KIND, "tametail": "", "name": "benchmark", "synthetic": True, "multi_label": False,
        "class_names": list(table.class_names), "methods": list(tables), "facts": [], "command": "", "grouped": False,
        "thresholds_elsewhere": False,
    }  # fmt: skip
    losses = [
        MethodResults(loss, len(own), len(own), (), evaluation.score.value, evaluation, None, None, (),
                    calibration=found[CALIBRATIONS][loss])
        for (loss, own), evaluation in zip(tables.items(), found[EVALUATIONS].values(), strict=True)
    ]  # fmt: skip
    results = StudyResults(
        settings, tuple(losses), (), SetCounts(images, dict.fromkeys(images, 0), len(table), 0, len(table), 0), (), 0.0,
        found[COMPARISONS], found[BY_CLASS], found[BY_RUN], table.class_names,
    )  # fmt: skip
    return results_html(results) + results_csv(results) + results_markdown(results)


EVALUATIONS, CALIBRATIONS, COMPARISONS = (
    "metrics with intervals, by method",
    "calibration, by method",
    "paired tests of all pairs",
)
BY_CLASS, BY_RUN = "best compared with each other, by class", "best compared with each other, by run"
# All stages that are timed.
STAGES = (
    Stage(EVALUATIONS, evaluations),
    Stage(CALIBRATIONS, calibrations),
    Stage(COMPARISONS, comparisons),
    Stage(BY_CLASS, class_comparisons),
    Stage(BY_RUN, run_comparisons),
    Stage("the report", report),
)


def made(images: int, groups: int, seeds: int) -> Tables:
    """Predictions whose errors are correlated within an image, slightly also between losses, as in real runs."""
    rng, classes = np.random.default_rng(0), len(TRAIN)
    target = rng.choice(classes, images, p=np.array(TRAIN) / sum(TRAIN))
    target[: 4 * classes] = np.repeat(np.arange(classes), 4)  # no class is absent
    image = np.array([f"image{index:06}" for index in range(images)])
    group = np.array([f"patient{index:05}" for index in rng.integers(0, groups, images)]) if groups else image
    fold, hard = rng.integers(0, 5, images), rng.normal(size=(images, classes)).astype(np.float32)
    right = np.eye(classes, dtype=np.float32)[target]
    found: Tables = {}
    for loss, skill in SKILL.items():
        found[loss] = []
        for _ in range(seeds):
            noise = rng.normal(size=hard.shape).astype(np.float32)
            logits = 2 * (hard + 0.7 * noise + np.float32(skill) * right)
            posterior = scores(logits, "softmax").astype(np.float32)
            names = tuple(f"class {index:02}" for index in range(classes))
            own = (
                image.copy(),
                group.copy(),
                target.copy(),
                fold.copy(),
            )  # as if each were read from its file
            found[loss].append(Predictions(*own, logits, names, "softmax", posterior))
    return found


def by_numpy(
    target: NDArray[np.int64], predicted: NDArray[np.int64], p: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Balanced accuracy, macro F1, MCC, quadratic kappa, and AUROC and average precision of each class."""
    classes, n = p.shape[1], len(target)
    matrix = np.bincount(target * classes + predicted, minlength=classes**2).reshape(classes, classes)
    actual, given, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix)
    scale = np.sqrt((n**2 - (actual**2).sum()) * float(n**2 - (given**2).sum()))
    far = (np.arange(classes)[:, None] - np.arange(classes)) ** 2
    found = [
        (hits / actual).mean(),
        (2 * hits / (actual + given)).mean(),
        (n * hits.sum() - actual @ given) / scale,
        1 - (far * matrix).sum() / ((far * np.outer(actual, given)).sum() / n),
    ]
    for code in range(classes):
        order = np.argsort(-p[:, code])
        positive = target[order] == code
        place, positives = np.flatnonzero(positive) + 1, actual[code]
        within = np.arange(1, positives + 1)
        found += [1 - (place - within).sum() / positives / (n - positives), (within / place).mean()]
    return np.array(found)


def by_scikit_learn(
    target: NDArray[np.int64], predicted: NDArray[np.int64], p: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The same."""
    found = [
        sk.balanced_accuracy_score(target, predicted),
        sk.f1_score(target, predicted, average="macro"),
        sk.matthews_corrcoef(target, predicted),
        sk.cohen_kappa_score(target, predicted, weights="quadratic"),
    ]
    for code in range(p.shape[1]):
        positive = target == code
        found += [sk.roc_auc_score(positive, p[:, code]), sk.average_precision_score(positive, p[:, code])]
    return np.array(found)


Statistics = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]]


def loop_seconds(table: Predictions, statistics: Statistics, resamples: int) -> float:
    """Seconds per resample of one run: groups drawn with replacement within the classes, all statistics anew."""
    rng, started = np.random.default_rng(0), time.perf_counter()
    groups, codes = np.unique(table.group, return_inverse=True)
    fold_models = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    stratum = np.array([table.target[own].min() for own in fold_models])
    strata = [np.flatnonzero(stratum == code) for code in np.unique(stratum)]
    p, predicted = table.probabilities, table.predicted
    single = len(groups) == len(table)
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(of_class, len(of_class)) for of_class in strata])
        rows = (
            np.array([own[0] for own in fold_models])[drawn]
            if single
            else np.concatenate([fold_models[g] for g in drawn])
        )
        statistics(table.target[rows], predicted[rows], p[rows])
    return (time.perf_counter() - started) / resamples


def peak_gigabytes() -> float:
    """Of this process, its tables included, since it began."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Measured(NamedTuple):
    """Seconds of each stage, the peak in gigabytes when all were done, and that of the tables alone."""

    seconds: dict[str, float]
    peak: float
    tables: float


def measure(tables: Tables, resamples: int) -> Measured:
    held, seconds = peak_gigabytes(), {}
    found: Found = {}
    for stage in STAGES:
        started = time.perf_counter()
        found[stage.name] = stage.work(tables, resamples, found)
        seconds[stage.name] = time.perf_counter() - started
        gc.collect()
    return Measured(seconds, peak_gigabytes(), held)


def page(measured: Measured, loops: dict[str, float], text: str) -> str:
    total = sum(measured.seconds.values())
    rows: Sequence[tuple[str, str, str]] = [
        *((name, f"{seconds:.1f} s", "") for name, seconds in measured.seconds.items()),
        ("**all of it**", f"**{total:.1f} s**", "1"),
        *(
            (f"{name}, extrapolated", f"{value:,.0f} s", f"{value / total:,.0f}")
            for name, value in loops.items()
        ),
    ]
    lines = ["| | time | × |", "|---|---:|---:|", *(f"| {' | '.join(row)} |" for row in rows)]
    memory = (
        f"Peak memory {measured.peak:.2f} GB, of which {measured.tables:.2f} GB were in use before the statistics "
        "(tables and libraries)."
    )
    met = total <= SECONDS and measured.peak <= GIGABYTES
    required = f"Required: {SECONDS:.0f} s and {GIGABYTES:.0f} GB on 2 cores; {'met' if met else 'MISSED'}."
    return "\n".join([text, "", *lines, "", memory, required, ""])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=150_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=0, help="patients; 0 for every image by itself")
    parser.add_argument("--quick", action="store_true", help="without the loops for comparison")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    tables = made(given.images, given.groups, given.repeats)
    runs = sum(map(len, tables.values()))
    measured = measure(tables, given.resamples)
    loops = {}
    if not given.quick:
        one = tables["ce"][0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, statistics in (
                ("plain NumPy loop", by_numpy),
                ("scikit-learn in a loop", by_scikit_learn),
            ):
                loops[name] = loop_seconds(one, statistics, LOOP_RESAMPLES) * given.resamples * runs
    grouped = f"{given.groups:,} patients" if given.groups else "every image its own group"
    text = (
        f"# Statistics of a large study\n\n    python benchmarks/evaluation.py    (make bench-evaluation)\n\n"
        f"{given.images:,} predictions × {len(TRAIN)} classes × {runs} runs, {given.resamples:,} resamples, {grouped}. "
        f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, SciPy {scipy.__version__}, scikit-learn {sklearn.__version__}; "
        f"load of other processes when it ended: {os.getloadavg()[0]:.1f}.\n\nThe loops are timed on one run and "
        f"{LOOP_RESAMPLES} resamples."
    )
    result = page(measured, loops, text)
    print(result)
    if given.output:
        given.output.write_text(result, encoding="utf-8")
    return 0 if "MISSED" not in result else 1


if __name__ == "__main__":
    sys.exit(main())
