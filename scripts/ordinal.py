"""Methods of a study of ordinal classes beside cross-entropy: quadratic kappa and mean absolute error, paired.

    python scripts/ordinal.py STUDY [-o docs/results/ordinal.md]

Differences are on the same images, with the percentile interval of 2,000 resamples of whole groups, stratified by the rarest
class of a group. `ce, median` is cross-entropy that decides for the median of its calibrated probabilities, as CORN does of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.text import counted
from tametail.evaluation import evaluate
from tametail.evaluation.bootstrap import group_bootstrap
from tametail.evaluation.calibration_maps import calibrate_out_of_fold
from tametail.evaluation.class_order import order_in_words, with_class_order
from tametail.evaluation.metrics import kappa_from_counts
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions
from tametail.report.study.runs import find_runs
from tametail.storage.study_file import read_study_file

FloatArray = NDArray[np.float64]
BASELINE, MEDIAN = "ce", "ce, median"


def decided_by_median(tables: Sequence[Predictions]) -> list[Predictions]:
    """The same probabilities, with the grade of lowest expected absolute error as decision."""
    grade = np.arange(len(tables[0].class_names))
    distance = np.abs(grade[:, None] - grade)
    return [replace(table, logits=(-table.probabilities @ distance).astype(np.float32)) for table in tables]


def counts_of(tables: Sequence[Predictions], group: NDArray[np.int64]) -> FloatArray:
    """(G, S (2 C + 1)) of each replicate the images of each grade, those predicted as it, and the sums of distances."""
    classes, groups = len(tables[0].class_names), int(group.max()) + 1
    columns = []
    for table in tables:
        for codes in (table.target, table.predicted):
            columns += [np.bincount(group, codes == grade, groups) for grade in range(classes)]
        apart = np.abs(table.target - table.predicted)
        columns += [np.bincount(group, apart**2, groups), np.bincount(group, apart, groups)]
    return np.stack(columns, axis=1).astype(np.float64)


def scores(summed: FloatArray, classes: int) -> FloatArray:
    """(R, 2) kappa and mean absolute error, means over the replicates, of summed counts (R, S (2 C + 2))."""
    parts = summed.reshape(len(summed), -1, 2 * classes + 2)
    actual, predicted = parts[..., :classes], parts[..., classes : 2 * classes]
    kappa = kappa_from_counts(parts[..., -2], actual, predicted).mean(axis=1)
    error = (parts[..., -1] / actual.sum(axis=-1)).mean(axis=1)
    return np.stack([kappa, error], axis=1)


def paired(a: Sequence[Predictions], b: Sequence[Predictions]) -> list[tuple[float, float, float]]:
    """Differences a - b of kappa and mean absolute error, with their limits."""
    sample, classes = Sample(a), len(a[0].class_names)
    tables = [counts_of(each, sample.group) for each in (sample.tables, Sample(b).tables)]

    def difference(summed: FloatArray) -> FloatArray:
        first, second = np.split(summed, 2, axis=1)
        return scores(first, classes) - scores(second, classes)

    both = np.concatenate(tables, axis=1)
    value = difference(both.sum(axis=0, keepdims=True))[0]
    low, high = group_bootstrap(both, sample.strata, difference)
    return list(zip(value.tolist(), low.tolist(), high.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    settings = read_study_file(given.study)
    order = settings["class_order"]
    tables = {
        runs.method: [
            with_class_order(table, order) for table in calibrate_out_of_fold(runs.replicates).tables
        ]
        for runs in find_runs(given.study, settings)
        if runs.complete
    }
    tables[MEDIAN] = decided_by_median(tables[BASELINE])
    found = {
        name: evaluate(each, class_order=order, train_counts=np.bincount(each[0].target).tolist())
        for name, each in tables.items()
    }
    first = found[BASELINE]
    images = f"{counted(first.n, 'image')} of {counted(first.groups, 'group')}"
    lines = [
        "# Ordinal classes: the grades of APTOS 2019",
        "",
        "    tametail compare DATA/aptos2019_gf224_dev --weights offline --class-order "
        f"{','.join(order)} --methods '{','.join(settings['methods'])}' -o STUDY",
        "    python scripts/ordinal.py STUDY -o docs/results/ordinal.md",
        "",
        f"Out-of-fold predictions of {images}, {len(tables[BASELINE])} repeats of {settings['splits']['folds']} folds; heads on frozen "
        f"features of {settings['backbone']}. The test set is held out. Order: {order_in_words(order)}. 95 % intervals, by groups. "
        "Differences from `ce` are on the same images; **bold** where the interval excludes 0. Errors are in grades, so that less is better.",
        "",
        "`ce, median` is `ce` with another decision: not the most probable grade, but the median of its calibrated probabilities, as "
        "`corn` decides by default (`corn[decide=class]` takes the most probable one). It shows what of a difference is the "
        "decision and what the training.",
        "",
        "| Method | Quadratic kappa | Difference | Mean absolute error | Difference | Off by at most one, % | Accuracy, % | Balanced accuracy, % |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in sorted(found, key=lambda name: -found[name]["kappa"].value):
        of = found[name]
        cells = [
            _estimate(of[metric].value, of[metric].low, of[metric].high, 3)
            for metric in ("kappa", "mean_absolute_error")
        ]
        differences = (
            ["", ""]
            if name == BASELINE
            else [_difference(*one) for one in paired(tables[name], tables[BASELINE])]
        )
        rest = [
            _estimate(*(100 * getattr(of[metric], end) for end in ("value", "low", "high")), 1)
            for metric in ("off_by_one_accuracy", "accuracy", "balanced_accuracy")
        ]
        lines.append(
            f"| {name} | {cells[0]} | {differences[0]} | {cells[1]} | {differences[1]} | {' | '.join(rest)} |"
        )
    confusion = ["ce", "corn"]
    for name in confusion:
        matrix = found[name].confusion if name in found else None
        if matrix is None:
            continue
        at = list(range(len(order)))
        lines += ["", f"Images by true (rows) and predicted grade, `{name}`, mean over the repeats:", ""]
        lines.append("| | " + " | ".join(order) + " |")
        lines.append("| --- |" + " ---: |" * len(order))
        lines += [
            f"| {order[row]} | " + " | ".join(f"{matrix[row, column]:.0f}" for column in at) + " |"
            for row in at
        ]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


def _estimate(value: float, low: float, high: float, digits: int) -> str:
    return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def _difference(value: float, low: float, high: float) -> str:
    text = f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"**{text}**" if low > 0 or high < 0 else text


if __name__ == "__main__":
    main()
