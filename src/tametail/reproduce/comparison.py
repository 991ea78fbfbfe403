"""Every published number compared with the study's estimate and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tametail.evaluation import Estimate, Evaluation
from tametail.report import MethodResults, StudyResults
from tametail.reproduce.differences import Differences
from tametail.reproduce.experiments import Experiment, impossible_numbers, notes_on

Kind = Literal["fold_models", "ensemble", "out_of_fold"]
KINDS: dict[Kind, str] = {
    "fold_models": "test set, mean over the fold models",
    "ensemble": "test set, ensemble of the fold models",
    "out_of_fold": "cross-validation on the training set",
}


@dataclass(frozen=True)
class NumberComparison:
    """A published number and the corresponding estimate.

    Attributes:
        published: as in the paper (recalls in percent), or None if the paper gives none.
        share: the published number in 0..1; a balanced accuracy is computed from its column.
        half_unit: half a unit of the last published digit, in 0..1.
        measured: the estimate.
        impossible: whether no test set can give the published number.
    """

    published: str | None
    share: float
    half_unit: float
    measured: Estimate
    impossible: bool = False

    @property
    def inside(self) -> bool:
        """Whether the published number, allowing for its rounding, lies in the interval; False if that is undefined."""
        low, high = self.measured.low - self.half_unit, self.measured.high + self.half_unit
        return low - 1e-12 <= self.share <= high + 1e-12


@dataclass(frozen=True)
class ClassComparison:
    """One class of one method."""

    recall: NumberComparison
    f1: NumberComparison


@dataclass(frozen=True)
class ColumnComparison:
    """One published column.

    Attributes:
        name: as in the paper, such as ``ALPA``.
        method: what is trained for it; None if there is no such method.
        status: ``complete``, the progress of its runs, or why there are none.
        rows: kind of evaluation → published class → numbers; empty until the method is complete.
        balanced_accuracy: kind → number.
    """

    name: str
    method: str | None
    status: str
    rows: Mapping[Kind, Mapping[str, ClassComparison]]
    balanced_accuracy: Mapping[Kind, NumberComparison]


@dataclass(frozen=True)
class Comparison:
    """An experiment compared with the paper.

    Attributes:
        experiment: the published table.
        data: name of the data set.
        classes: published class → class of the data.
        train, test: published class → number of images (published, here).
        columns: in the paper's order.
        kinds: what was evaluated, the main one first.
        test_set_evaluations: how often the study was evaluated on its test set.
        differences: from the paper.
        models: trainings per method, folds × seeds.
    """

    experiment: Experiment
    data: str
    classes: Mapping[str, str]
    train: Mapping[str, tuple[int, int]]
    test: Mapping[str, tuple[int, int]]
    columns: tuple[ColumnComparison, ...]
    kinds: tuple[Kind, ...]
    test_set_evaluations: int
    differences: Differences
    models: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the published numbers."""
        return tuple(note.text for note in notes_on(self.experiment.name))

    @property
    def measured(self) -> tuple[ColumnComparison, ...]:
        """The columns that have results."""
        return tuple(column for column in self.columns if column.rows)


def compare_with_published(
    experiment: Experiment,
    results: StudyResults,
    methods: Mapping[str, str],
    classes: Mapping[str, str],
    differences: Differences,
    *,
    test_set: bool,
) -> Comparison:
    """Compare a study's results with the published table.

    Args:
        experiment: the table.
        results: of the study; nothing is computed again.
        methods: published column → method.
        classes: published class → class of the study.
        differences: from the paper.
        test_set: compare results of the test set, otherwise of cross-validation.
    """
    kinds: tuple[Kind, ...] = ("fold_models", "ensemble") if test_set else ("out_of_fold",)
    published, by_method = experiment.published, {result.method: result for result in results.methods}
    counts = results.counts
    return Comparison(
        experiment=experiment,
        data=results.settings["name"],
        classes=classes,
        train={name: (published.images.train[name], counts.train[own]) for name, own in classes.items()},
        test={name: (published.images.test[name], counts.test[own]) for name, own in classes.items()},
        columns=tuple(
            _column(experiment, name, methods.get(name), by_method, classes, kinds)
            for name in published.columns
        ),
        kinds=kinds,
        test_set_evaluations=len(results.test_set_evaluations),
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
) -> ColumnComparison:
    if method is None:
        return ColumnComparison(name, None, "no such method", {}, {})
    result, published = results[method], experiment.published
    found = {"fold_models": result.test, "ensemble": result.test_ensemble, "out_of_fold": result.out_of_fold}
    evaluations = {kind: evaluation for kind in kinds if (evaluation := found[kind])}
    rows = {kind: _rows(experiment, name, one, classes) for kind, one in evaluations.items()}
    numbers = published.balanced_accuracy.get(name), published.mean_recall(name), 0.0
    overall = {
        kind: NumberComparison(*numbers, one["balanced_accuracy"]) for kind, one in evaluations.items()
    }
    return ColumnComparison(name, method, result.status, rows, overall)


def _rows(
    experiment: Experiment, column: str, evaluation: Evaluation, classes: Mapping[str, str]
) -> dict[str, ClassComparison]:
    published, impossible = experiment.published, impossible_numbers(experiment.name)
    rows = {}
    for name, own in classes.items():
        recall, f1 = published.recall[column, name], published.f1[column, name]
        rows[name] = ClassComparison(
            _pair(recall, 100, evaluation["recall", own], (column, name, "recall") in impossible),
            _pair(f1, 1, evaluation["f1", own], (column, name, "f1") in impossible),
        )
    return rows


def _pair(published: str, unit: int, measured: Estimate, impossible: bool) -> NumberComparison:
    decimals = len(published.partition(".")[2])
    return NumberComparison(
        published, float(published) / unit, 0.5 * 10.0**-decimals / unit, measured, impossible
    )


def as_dict(comparison: Comparison, interpretation: Sequence[str]) -> dict[str, Any]:
    """The content of reproduce.json; shares in 0..1, published numbers as text. docs/reproduce.md explains the keys."""
    return {
        "schema": 2,
        "experiment": comparison.experiment.name,
        "data": comparison.data,
        "test_set_evaluations": comparison.test_set_evaluations,
        "models_per_method": comparison.models,
        "differs_from_the_paper_in": list(comparison.differences.stated),
        "not_stated_by_the_paper": list(comparison.differences.unstated),
        "notes": list(comparison.notes),
        "interpretation": list(interpretation),
        "classes": [
            {"class": name, "here": own}
            | {
                part: dict(zip(("published", "here"), counts[name], strict=True))
                for part, counts in (("train", comparison.train), ("test", comparison.test))
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


def _pair_as_dict(pair: NumberComparison) -> dict[str, Any]:
    measured = pair.measured.as_dict()
    return {
        "published": pair.published,
        "published_share": round(pair.share, 6),
        **{
            key: None if (value := measured[key]) is None else round(value, 6)
            for key in ("value", "low", "high")
        },
        "n": pair.measured.n,
        "inside": pair.inside,
        "impossible": pair.impossible,
    }
