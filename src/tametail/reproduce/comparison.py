"""Measured beside printed: every printed number, the study's own estimate of it, and whether one holds the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tametail.evaluation import Estimate, Evaluation
from tametail.report import MethodResults, StudyResults
from tametail.reproduce.differences import Differences
from tametail.reproduce.experiments import Experiment
from tametail.reproduce.remarks import impossible_numbers, remarks_on

Kind = Literal["fold_models", "ensemble", "out_of_fold"]
KINDS: dict[Kind, str] = {
    "fold_models": "test set, mean over the fold models",
    "ensemble": "test set, ensemble of the fold models",
    "out_of_fold": "out of fold, on the training set",
}


@dataclass(frozen=True)
class Pair:
    """A printed number and what is measured in its place.

    Attributes:
        printed: as printed (recalls in percent), or None where the paper prints none.
        share: the printed number in 0..1; for a balanced accuracy what its column gives.
        half_unit: half of the last printed place, in 0..1.
        measured: with its interval.
        impossible: no test set can give the printed number.
    """

    printed: str | None
    share: float
    half_unit: float
    measured: Estimate
    impossible: bool = False

    @property
    def inside(self) -> bool:
        """Whether the printed number, as it was rounded, lies in the measured interval; an undefined one holds none."""
        low, high = self.measured.low - self.half_unit, self.measured.high + self.half_unit
        return low - 1e-12 <= self.share <= high + 1e-12


@dataclass(frozen=True)
class Row:
    """One class of one loss."""

    recall: Pair
    f1: Pair


@dataclass(frozen=True)
class Column:
    """One printed column.

    Attributes:
        name: as printed, such as ``ALPA``.
        loss: its text; None where there is none to train.
        status: ``complete``, how far the loss is, or why there is none.
        rows: kind of evaluation → printed class → pair; empty until the loss is complete.
        balanced_accuracy: kind → pair.
    """

    name: str
    method: str | None
    status: str
    rows: Mapping[Kind, Mapping[str, Row]]
    balanced_accuracy: Mapping[Kind, Pair]


@dataclass(frozen=True)
class Comparison:
    """An experiment, measured.

    Attributes:
        experiment: which.
        data: name of the images.
        classes: printed class → class of the data.
        train, test: printed class → images (in print, here).
        columns: in the paper's order.
        kinds: what was evaluated, the one to read first at the front.
        openings: how often the test set was opened.
        differences: from the paper.
        models: trainings per loss, folds × seeds.
    """

    experiment: Experiment
    data: str
    classes: Mapping[str, str]
    train: Mapping[str, tuple[int, int]]
    test: Mapping[str, tuple[int, int]]
    columns: tuple[Column, ...]
    kinds: tuple[Kind, ...]
    openings: int
    differences: Differences
    models: int

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be known of the printed numbers."""
        return tuple(remark.text for remark in remarks_on(self.experiment.name))

    @property
    def measured(self) -> tuple[Column, ...]:
        """The columns that have results."""
        return tuple(column for column in self.columns if column.rows)


def compare_with_print(
    experiment: Experiment,
    results: StudyResults,
    methods: Mapping[str, str],
    classes: Mapping[str, str],
    differences: Differences,
    *,
    sealed: bool,
) -> Comparison:
    """Put a study's results beside the printed table.

    Args:
        experiment: the table.
        results: what the study's own evaluation gives; nothing is computed again.
        losses: printed column → loss text.
        classes: printed class → class of the study.
        differences: from the paper.
        sealed: show out-of-fold results, else those of the test set.
    """
    kinds: tuple[Kind, ...] = ("out_of_fold",) if sealed else ("fold_models", "ensemble")
    printed, by_method = experiment.printed, {result.method: result for result in results.methods}
    counts = results.counts
    return Comparison(
        experiment=experiment,
        data=results.settings["name"],
        classes=classes,
        train={name: (printed.images.train[name], counts.train[own]) for name, own in classes.items()},
        test={name: (printed.images.test[name], counts.test[own]) for name, own in classes.items()},
        columns=tuple(
            _column(experiment, name, methods.get(name), by_method, classes, kinds)
            for name in printed.columns
        ),
        kinds=kinds,
        openings=len(results.openings),
        differences=differences,
        models=results.settings["splits"]["folds"] * len(results.settings["seeds"]),
    )


def _column(
    experiment: Experiment,
    name: str,
    method: str | None,
    results: Mapping[str, MethodResults],
    classes: Mapping[str, str],
    kinds: tuple[Kind, ...],
) -> Column:
    if method is None:
        return Column(name, None, "no such loss", {}, {})
    result = results[method]
    evaluations = {kind: evaluation for kind in kinds if (evaluation := _evaluation(result, kind))}
    rows = {kind: _rows(experiment, name, one, classes) for kind, one in evaluations.items()}
    printed = experiment.printed
    overall = {
        kind: Pair(printed.balanced_accuracy.get(name), printed.mean_recall(name), 0.0, one.balanced_accuracy)
        for kind, one in evaluations.items()
    }
    return Column(name, method, result.status, rows, overall)


def _evaluation(result: MethodResults, kind: Kind) -> Evaluation | None:
    return {
        "fold_models": result.test,
        "ensemble": result.test_ensemble,
        "out_of_fold": result.out_of_fold,
    }[kind]


def _rows(
    experiment: Experiment, column: str, evaluation: Evaluation, classes: Mapping[str, str]
) -> dict[str, Row]:
    printed, impossible = experiment.printed, impossible_numbers(experiment.name)
    measured = {one.name: one for one in evaluation.classes}
    rows = {}
    for name, own in classes.items():
        recall, f1 = printed.recall[column, name], printed.f1[column, name]
        rows[name] = Row(
            _pair(recall, 100, measured[own].recall, (column, name, "recall") in impossible),
            _pair(f1, 1, measured[own].f1, (column, name, "f1") in impossible),
        )
    return rows


def _pair(printed: str, unit: int, measured: Estimate, impossible: bool) -> Pair:
    decimals = len(printed.partition(".")[2])
    return Pair(printed, float(printed) / unit, 0.5 * 10.0**-decimals / unit, measured, impossible)


def as_dict(comparison: Comparison, reading: tuple[str, ...]) -> dict[str, Any]:
    """Everything as JSON has it; shares in 0..1, printed numbers as text. docs/reproduce.md explains the keys."""
    return {
        "schema": 1,
        "experiment": comparison.experiment.name,
        "data": comparison.data,
        "openings": comparison.openings,
        "models_per_loss": comparison.models,
        "differs_from_the_paper_in": list(comparison.differences.told),
        "left_open_by_the_paper": list(comparison.differences.left_open),
        "remarks": list(comparison.remarks),
        "reading": list(reading),
        "classes": [
            {
                "class": name,
                "here": own,
                "train": dict(zip(("printed", "here"), comparison.train[name], strict=True)),
                "test": dict(zip(("printed", "here"), comparison.test[name], strict=True)),
            }
            for name, own in comparison.classes.items()
        ],
        "methods": [
            {
                "column": column.name,
                "method": column.method,
                "status": column.status,
                "measured": {
                    kind: {
                        "balanced_accuracy": _pair_as_dict(column.balanced_accuracy[kind]),
                        "classes": {
                            name: {"recall": _pair_as_dict(row.recall), "f1": _pair_as_dict(row.f1)}
                            for name, row in rows.items()
                        },
                    }
                    for kind, rows in column.rows.items()
                },
            }
            for column in comparison.columns
        ],
    }


def _pair_as_dict(pair: Pair) -> dict[str, Any]:
    measured = pair.measured
    numbers = {"value": measured.value, "low": measured.low, "high": measured.high}
    return {
        "printed": pair.printed,
        "printed_share": round(pair.share, 6),
        # nan, where a value is undefined, is no JSON
        **{key: round(number, 6) if math.isfinite(number) else None for key, number in numbers.items()},
        "n": measured.n,
        "inside": pair.inside,
        "impossible": pair.impossible,
    }
