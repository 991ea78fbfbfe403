"""Do methods rank equally in two studies? Rank correlation of their balanced accuracies, with intervals.

    python scripts/head_and_fine_tuning.py runs/head docs/results/ham10000_224-fine-tuned.md

Each argument is a study's folder, a results.csv, or a Markdown table with the columns Method and Balanced accuracy. Methods
that only one of them has are listed and left out. Intervals: Spearman's by Bonett & Wright (2000), Kendall's by Fieller,
Hartley & Pearson (1957), both after Fisher's transformation, which treat the methods as a random sample; a bootstrap over
methods; and, for studies with predictions, a bootstrap over groups of images, which treats the methods as
fixed. Images of both studies are drawn together.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tametail.evaluation.bootstrap import group_bootstrap
from tametail.predictions.single_label import Predictions, concatenate, read_predictions
from tametail.report.writers.markdown_table import markdown_text
from tametail.training.strategies import parse_method

FloatArray = NDArray[np.float64]
RESAMPLES = 10_000
LEAST = 4  # methods
_NUMBER = r"\s*(\d+(?:\.\d+)?)"


@dataclass(frozen=True, eq=False)
class Measured:
    """Balanced accuracies in 0..1 by method, and their predictions if available, one table per seed."""

    name: str
    scores: dict[str, float]
    tables: dict[str, list[Predictions]]


def read(path: Path) -> Measured:
    """A study's folder, or a table of results."""
    try:
        source = path / "results.csv" if path.is_dir() else path
        content = source.read_text(encoding="utf-8")
    except OSError as error:
        raise SystemExit(f"expected a study's folder or a table of results at {path}, but {error}") from error
    scores = _from_csv(content) if source.suffix == ".csv" else _from_markdown(content)
    if not scores:
        raise SystemExit(
            f"expected a table with the columns method and balanced accuracy in {source}, found none; give results.csv or "
            f"results.md of a study"
        )
    tables = {method: _predictions(path, method) for method in scores} if path.is_dir() else {}
    return Measured(
        source.stem if not path.is_dir() else path.name, scores, {m: t for m, t in tables.items() if t}
    )


def _from_csv(content: str) -> dict[str, float]:
    rows = csv.DictReader(content.splitlines())
    return {row["method"]: float(row["balanced_accuracy"]) for row in rows if row.get("balanced_accuracy")}


def _from_markdown(content: str) -> dict[str, float]:
    lines = iter(content.splitlines())
    for line in lines:
        header = [cell.strip().lower() for cell in line.strip().strip("|").split("|")]
        score = next((at for at, cell in enumerate(header) if cell.startswith("balanced accuracy, %")), None)
        if score is None or "method" not in header:
            continue
        next(lines, None)
        found = {}
        for row in lines:
            cells = re.split(r"(?<!\\)\|", row.strip().strip("|"))
            value = re.match(_NUMBER, cells[score]) if len(cells) == len(header) else None
            if value is None:
                break
            found[re.sub(r"\\(.)", r"\1", cells[header.index("method")].strip())] = (
                float(value.group(1)) / 100
            )
        return found
    return {}


def _predictions(study: Path, method: str) -> list[Predictions]:
    by_seed: dict[str, list[Predictions]] = {}
    for path in sorted((study / "runs" / parse_method(method).slug).glob("seed*-fold*/predictions.parquet")):
        by_seed.setdefault(path.parent.name.partition("-")[0], []).append(read_predictions(path))
    return [concatenate(folds) for folds in by_seed.values()]


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Of two vectors of scores; nan where one of them is constant."""
    return _correlation(stats.rankdata(a), stats.rankdata(b))


def _correlation(a: FloatArray, b: FloatArray) -> float:
    centred, other = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(centred @ centred) * float(other @ other))
    return float(centred @ other) / scale if scale else math.nan


def kendall(a: FloatArray, b: FloatArray) -> float:
    """τ_b of two vectors of scores; nan where one of them is constant."""
    upper = np.triu_indices(len(a), 1)
    return _uncentred(np.sign(a[:, None] - a)[upper], np.sign(b[:, None] - b)[upper])


def _uncentred(a: FloatArray, b: FloatArray) -> float:
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


COEFFICIENTS = {"Spearman": spearman, "Kendall": kendall}


def closed_form(coefficient: str, value: float, n: int) -> tuple[float, float]:
    """95 % limits by Fisher's transformation; the value itself at ±1, where they have no width."""
    if abs(value) >= 1:
        return value, value
    variance = (1 + value**2 / 2) / (n - 3) if coefficient == "Spearman" else 0.437 / max(n - 4, 1)
    half = 1.959964 * math.sqrt(variance)
    return math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)


def permutation_p(coefficient: str, a: FloatArray, b: FloatArray, seed: int = 0) -> float:
    """Two-sided: how often methods dealt at random rank as much alike, or as much the other way round."""
    measure, rng = COEFFICIENTS[coefficient], np.random.default_rng(seed)
    observed = abs(measure(a, b)) - 1e-12
    as_far = sum(abs(measure(a, rng.permutation(b))) >= observed for _ in range(RESAMPLES))
    return (as_far + 1) / (RESAMPLES + 1)


def over_methods(coefficient: str, a: FloatArray, b: FloatArray, seed: int = 0) -> tuple[float, float]:
    """Percentile limits over methods drawn with replacement."""
    measure, rng = COEFFICIENTS[coefficient], np.random.default_rng(seed)
    drawn = rng.integers(0, len(a), (RESAMPLES // 2, len(a)))
    values = [measure(a[rows], b[rows]) for rows in drawn]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def over_images(studies: Sequence[Measured], methods: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Percentile limits over groups of images, of the studies that have predictions of all methods; empty if none has.

    Groups are drawn within strata, that of a group being its rarest class. A study without predictions keeps its scores.
    """
    drawn = [study for study in studies if all(method in study.tables for method in methods)]
    if not drawn:
        return {}
    names = np.unique(np.concatenate([study.tables[methods[0]][0].group for study in drawn]))
    counted = [_counted(study, methods, names) for study in drawn]
    images = sum(table[:, 0] for table in counted)
    size = np.where(images > 0, images.sum(axis=0), np.inf)
    widths = [table.shape[1] * table.shape[2] for table in counted]
    classes = [table.shape[2] for table in counted]

    def statistic(summed: FloatArray) -> FloatArray:
        parts = np.split(summed, np.cumsum(widths)[:-1], axis=1)
        scores = [_scores(part.reshape(len(summed), -1, c)) for part, c in zip(parts, classes, strict=True)]
        of_studies = iter(scores)
        given = [
            next(of_studies)
            if study in drawn
            else np.tile([study.scores[method] for method in methods], (len(summed), 1))
            for study in studies
        ]
        return np.array(
            [[measure(a, b) for measure in COEFFICIENTS.values()] for a, b in zip(*given, strict=True)]
        )

    together = np.concatenate([table.reshape(len(names), -1) for table in counted], axis=1)
    low, high = group_bootstrap(together, size.argmin(axis=1).astype(np.int64), statistic, resamples=2000)
    return {name: (float(low[at]), float(high[at])) for at, name in enumerate(COEFFICIENTS)}


def _counted(study: Measured, methods: Sequence[str], names: NDArray[np.str_]) -> FloatArray:
    """(groups, 1 + methods, classes) images, and hits of each method (means over seeds)."""
    first = study.tables[methods[0]][0]
    classes = len(first.class_names)

    def by_group(table: Predictions, weights: FloatArray) -> FloatArray:
        cell = np.searchsorted(names, table.group) * classes + table.target
        return np.bincount(cell, weights, len(names) * classes).reshape(len(names), classes)

    hits = [
        np.mean([by_group(t, (t.predicted == t.target).astype(float)) for t in study.tables[method]], axis=0)
        for method in methods
    ]
    return np.stack([by_group(first, np.ones(len(first))), *hits], axis=1)


def _scores(summed: FloatArray) -> FloatArray:
    """(R, methods) balanced accuracies of counts (R, 1 + methods, classes)."""
    images, hits = summed[:, :1], summed[:, 1:]
    recall = np.divide(hits, images, out=np.zeros_like(hits), where=images > 0)
    return np.asarray(recall.sum(axis=2) / (images > 0).sum(axis=2))


def compared(one: Measured, other: Measured) -> list[str]:
    """The comparison of two studies, as lines of Markdown."""
    methods = [method for method in one.scores if method in other.scores]
    if len(methods) < LEAST:
        raise SystemExit(
            f"expected at least {LEAST} methods in both, found {', '.join(methods) or 'none'}; run the same ones in both"
        )
    a, b = (np.array([study.scores[method] for method in methods]) for study in (one, other))
    images = over_images((one, other), methods)
    lines = [
        f"{one.name} and {other.name}: n = {len(methods)} methods.",
        "",
        "| Coefficient | Value | 95 %, closed form | 95 %, over methods | 95 %, over images | p | Without one method |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, measure in COEFFICIENTS.items():
        value = measure(a, b)
        without = [measure(np.delete(a, at), np.delete(b, at)) for at in range(len(methods))]
        limits = [closed_form(name, value, len(methods)), over_methods(name, a, b), images.get(name)]
        cells = [f"{value:.2f}", *map(_interval, limits), f"{permutation_p(name, a, b):.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {_interval((min(without), max(without)))} |")
    ranks = [len(methods) + 1 - stats.rankdata(scores) for scores in (a, b)]
    lines += [
        "",
        f"| Method | {one.name}, % | Rank | {other.name}, % | Rank |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for at in np.argsort(ranks[0], kind="stable"):
        cells = [f"{100 * a[at]:.1f}", f"{ranks[0][at]:g}", f"{100 * b[at]:.1f}", f"{ranks[1][at]:g}"]
        lines.append(f"| {markdown_text(methods[at])} | {' | '.join(cells)} |")
    lock = sorted(set(one.scores) ^ set(other.scores))
    return [*lines, *(["", f"Left out, as only one has them: {', '.join(lock)}."] if lock else [])]


def _interval(limits: tuple[float, float] | None) -> str:
    return "–" if limits is None else f"{limits[0]:.2f} to {limits[1]:.2f}"


def main() -> None:
    """Read both, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("one", type=Path, help="a study's folder, results.csv or a Markdown table")
    parser.add_argument("other", type=Path, help="the other, in the same form")
    given = parser.parse_args()
    sys.stdout.write("\n".join(compared(read(given.one), read(given.other))) + "\n")


if __name__ == "__main__":
    main()
