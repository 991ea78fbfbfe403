"""Read an evaluation folder: existing predictions of models, evaluated like the methods of a study.

They have no recipe, folds or test set: see `StudyResults.is_evaluation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tametail.core.arrays import IntArray
from tametail.core.errors import DataError
from tametail.core.version import __version__
from tametail.evaluation import Evaluation, evaluate, evaluate_labels
from tametail.evaluation.calibration import calibration_of
from tametail.evaluation.calibration_maps import calibrate_out_of_fold
from tametail.evaluation.label_calibration import calibrate_labels
from tametail.evaluation.label_thresholds import cross_fitted_thresholds, deployable_thresholds
from tametail.evaluation.mcnemar import ClassTest
from tametail.evaluation.operating import operating_point
from tametail.evaluation.paired import PairedTable, paired_table
from tametail.evaluation.paired_labels import compare_labels, paired_label_table
from tametail.evaluation.subgroup_contrasts import subgroup_contrasts
from tametail.evaluation.subgroups import subgroups
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions
from tametail.report.study.class_curves import class_curves, label_curves, net_benefit_curve
from tametail.report.study.comparisons import compare_classes
from tametail.report.study.results import MethodResults, SetCounts, StudyResults, shown_first
from tametail.storage.evaluation_file import (
    EvaluatedModel,
    EvaluationSettings,
    read_columns,
    read_evaluation_file,
    read_label_tables,
    read_tables,
)

KIND = "evaluation"


def read_evaluation(directory: Path) -> StudyResults:
    """Read an evaluation folder and evaluate its models.

    Raises:
        DataError: the folder holds no evaluation, or one of its files is damaged or does not fit the others.
    """
    about = read_evaluation_file(directory)
    try:
        return _read_labels(directory, about) if about.multi_label else _read_classes(directory, about)
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"expected predictions of the same images and of the classes {', '.join(about.class_names)} in {directory}, but "
            f"they do not fit: {error}; make the evaluation again with tametail evaluate"
        ) from error


def _read_classes(directory: Path, about: EvaluationSettings) -> StudyResults:
    tables = {model.name: read_tables(directory, model) for model in about.models}
    first = tables[about.models[0].name][0]
    columns = read_columns(directory, about, first.image)
    results = _ranked(_evaluate(model, tables[model.name], about, columns) for model in about.models)
    ranked = {result.method: tables[result.method] for result in results}
    drawn = shown_first(list(ranked), ())
    asked = [about.class_names.index(name) for name, _ in about.operating]
    results = [
        replace(result, decision=net_benefit_curve(ranked[result.method], asked))
        if result.method in drawn
        else result
        for result in results
    ]
    results[0] = replace(
        results[0],
        curves=class_curves(ranked[results[0].method]),
        contrasts=tuple(
            subgroup_contrasts(ranked[results[0].method], values, column)
            for column, values in columns.items()
            if len(set(values.tolist())) > 1
        ),
    )
    found = np.bincount(first.target, minlength=len(first.class_names))
    results_of = partial(_results, about, results, _count(first, found))
    if len(ranked) < 2:
        return results_of(None, {})
    return results_of(paired_table(ranked), compare_classes(ranked))


def _read_labels(directory: Path, about: EvaluationSettings) -> StudyResults:
    """The same of images that may have several labels."""
    tables = {model.name: read_label_tables(directory, model) for model in about.models}
    first = tables[about.models[0].name][0]
    results = _ranked(_evaluate_labels(model, tables[model.name], about) for model in about.models)
    ranked = {result.method: tables[result.method] for result in results}
    results[0] = replace(results[0], curves=label_curves(ranked[results[0].method]))
    results_of = partial(_results, about, results, _count(first, first.labels.sum(axis=0)))
    if len(ranked) < 2:
        return results_of(None, {})
    return results_of(paired_label_table(ranked), compare_labels(ranked))


def _ranked(results: Iterable[MethodResults]) -> list[MethodResults]:
    return sorted(results, key=lambda result: (-(result.score or 0.0), result.method))


def _results(
    about: EvaluationSettings,
    results: Sequence[MethodResults],
    counts: SetCounts,
    pairs: PairedTable | None,
    by_class: Mapping[str, tuple[ClassTest, ...]],
) -> StudyResults:
    return StudyResults(
        settings=_settings(about),
        methods=tuple(results),
        test_set_evaluations=(),
        counts=counts,
        environments=(),
        seconds=0.0,
        pairs=pairs,
        by_class=by_class,
        class_order=about.class_order,
    )


def _evaluate(
    model: EvaluatedModel,
    tables: Sequence[Predictions],
    about: EvaluationSettings,
    columns: Mapping[str, NDArray[np.str_]],
) -> MethodResults:
    if any(table.class_names != about.class_names for table in tables):
        raise ValueError(f"the tables of {model.name} have other classes")
    evaluation = evaluate(tables, train_counts=model.train_counts or None, class_order=about.class_order)
    # Thresholds are never chosen on these images, which are for evaluation only.
    elsewhere: list[float | None] = [math.nan if cut is None else cut for cut in model.thresholds]
    cuts = elsewhere or [None] * len(about.operating)
    cross_fitted = len(np.unique(tables[0].fold)) > 1
    return _method(
        model,
        len(tables),
        evaluation,
        calibration=calibration_of(tables, calibrate_out_of_fold(tables) if cross_fitted else None),
        operating=tuple(
            operating_point(tables, about.class_names.index(name), asked, threshold=cut)
            for (name, asked), cut in zip(about.operating, cuts, strict=True)
        ),
        subgroups=tuple(
            group for column, values in columns.items() for group in subgroups(tables, values, column)
        ),
    )


def _evaluate_labels(
    model: EvaluatedModel, tables: Sequence[LabelPredictions], about: EvaluationSettings
) -> MethodResults:
    if any(table.class_names != about.class_names for table in tables):
        raise ValueError(f"the tables of {model.name} have other labels")
    evaluation = evaluate_label_model(model, tables)
    return _method(
        model,
        len(tables),
        evaluation,
        thresholds=model.label_thresholds or tuple(deployable_thresholds(tables).tolist()),
        label_calibration=calibrate_labels(tables),
    )


def _method(model: EvaluatedModel, tables: int, evaluation: Evaluation, **found: Any) -> MethodResults:
    """The results of a model with so many tables, and what else was found."""
    return MethodResults(
        method=model.name,
        finished=tables,
        expected=tables,
        failures=(),
        score=round(evaluation.score.value, 12),
        out_of_fold=evaluation,
        test=None,
        test_ensemble=None,
        histories=(),
        **found,
    )


def evaluate_label_model(model: EvaluatedModel, tables: Sequence[LabelPredictions]) -> Evaluation:
    """Evaluate a model of an evaluation whose images may have several labels: at its thresholds, or cross-fitted ones."""
    thresholds: ArrayLike | None = model.label_thresholds
    if not model.label_thresholds:
        folds = len(np.unique(tables[0].fold)) > 1
        thresholds = None if folds else cross_fitted_thresholds(tables[0])
    return evaluate_labels(tables, thresholds, train_counts=model.train_counts or None)


def _count(table: Predictions | LabelPredictions, of_class: IntArray) -> SetCounts:
    """Counts of the evaluated images in place of training images: they order the classes."""
    images = dict(zip(table.class_names, of_class.tolist(), strict=True))
    return SetCounts(images, dict.fromkeys(images, 0), len(np.unique(table.group)), 0, len(table), 0)


def _settings(about: EvaluationSettings) -> dict[str, Any]:
    return {
        "kind": KIND,
        "tametail": __version__,
        "name": about.name,
        "synthetic": about.synthetic,
        "multi_label": about.multi_label,
        "class_names": list(about.class_names),
        "methods": [model.name for model in about.models],
        "facts": [list(fact) for fact in about.facts],
        "command": about.command,
        "grouped": about.grouped,
        "thresholds_elsewhere": any(model.thresholds or model.label_thresholds for model in about.models),
    }
