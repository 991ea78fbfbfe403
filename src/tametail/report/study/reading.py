"""Read a study directory and evaluate its finished methods, without torch. Nothing is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tametail.core.errors import DataError, UsageError
from tametail.core.parquet_file import read_frame
from tametail.core.regular_file import regular
from tametail.core.run_files import HISTORY
from tametail.data.table import LABEL_SEPARATOR
from tametail.evaluation import evaluate, evaluate_labels
from tametail.evaluation.calibration import calibration_of
from tametail.evaluation.calibration_maps import apply_map, calibrate_out_of_fold
from tametail.evaluation.conformal import prediction_sets
from tametail.evaluation.curves import Curve
from tametail.evaluation.label_calibration import apply_label_map, calibrate_labels, deployed_thresholds
from tametail.evaluation.label_shift import shift_reference
from tametail.evaluation.mcnemar import ClassTest
from tametail.evaluation.operating import OperatingPoint
from tametail.evaluation.paired import PairedTable, paired_table
from tametail.evaluation.paired_labels import compare_labels, paired_label_table
from tametail.evaluation.subgroup_contrasts import SubgroupContrasts
from tametail.evaluation.subgroups import Subgroup
from tametail.predictions.by_group import by_group, replicates_by_group
from tametail.predictions.multi_label import ensemble_labels
from tametail.predictions.single_label import ensemble
from tametail.report.options import ReportOptions
from tametail.report.study.class_curves import (
    class_curves,
    label_curves,
    label_net_benefit_curve,
    net_benefit_curve,
)
from tametail.report.study.clinical import ClinicalResults, clinical_results
from tametail.report.study.comparisons import RunComparison, compare_classes, compare_runs
from tametail.report.study.results import MethodResults, SetCounts, StudyResults, shown_first
from tametail.report.study.runs import MethodRuns, disagreeing, find_runs, ranked
from tametail.storage.study_file import read_study_file, read_test_set_evaluations, read_test_set_looks

if TYPE_CHECKING:
    import pandas as pd


def read_results(directory: Path, options: ReportOptions | None = None) -> StudyResults:
    """Read a study directory and evaluate its complete methods.

    Raises:
        DataError: the directory holds no study, or one of its files is damaged.
        UsageError: the study lacks a class, column or method of the options.
    """
    options = options or ReportOptions()
    settings, picked = read_study_file(directory), options.show
    if unknown := [name for name in picked if name not in settings["methods"]]:
        raise UsageError(
            f"expected methods of the study with --show ({', '.join(settings['methods'])}), got {', '.join(unknown)}"
        )
    predict_by = options.predict_by
    if predict_by != "image" and not settings.get("multi_label"):
        raise UsageError(
            f"expected --predict-by image, as the images of {directory} have one class each, got {predict_by}: only labels can be "
            "combined over the images of a group"
        )
    runs = [replace(of_method, predict_by=predict_by) for of_method in find_runs(directory, settings)]
    evaluations = tuple(read_test_set_evaluations(directory))
    in_order = ranked(runs)
    counts = _count(directory, settings["class_names"], multi_label=settings.get("multi_label", False))
    clinical = clinical_results(directory, options, settings)
    finished = [of_method.method for of_method in in_order if of_method.complete]
    drawn = shown_first(finished, picked)
    results = [
        _evaluate(
            of_method,
            tuple(counts.train.values()),
            clinical,
            options.coverage,
            test_set=bool(evaluations),
            best=of_method.method in finished[:1],
            drawn=of_method.method in drawn,
        )
        for of_method in in_order
    ]
    compared = [of_method for of_method in in_order if of_method.complete]
    try:
        pairs, by_class, across_runs = _compare(compared, counts.train_images)
    except ValueError as error:
        raise disagreeing(" and ".join(one.method for one in compared), error) from error
    described = [run for of_method in runs for run in of_method.described if run["status"] == "finished"]
    environments = {json.dumps(run.get("environment", {}), sort_keys=True): None for run in described}
    return StudyResults(
        settings=settings,
        methods=tuple(results),
        test_set_evaluations=evaluations,
        counts=counts,
        environments=tuple(json.loads(text) for text in environments),
        seconds=float(sum(run.get("seconds", 0.0) for run in described)),
        pairs=pairs,
        by_class=by_class,
        across_runs=across_runs,
        class_order=clinical.class_order,
        test_set_looks=tuple(read_test_set_looks(directory)),
        picked=picked,
        predict_by=predict_by,
    )


def _compare(
    methods: Sequence[MethodRuns], train_images: int
) -> tuple[PairedTable | None, Mapping[str, tuple[ClassTest, ...]], Mapping[str, RunComparison]]:
    if len(methods) < 2 or not np.isfinite(methods[0].score or 0.0):
        return None, {}, {}
    if methods[0].multi_label:
        labels = {of_method.method: of_method.evaluated_labels for of_method in methods}
        images = len(methods[0].label_replicates[0])
        return paired_label_table(labels), compare_labels(labels), compare_runs(labels, train_images, images)
    tables = {of_method.method: of_method.replicates for of_method in methods}
    images = len(methods[0].replicates[0])
    return paired_table(tables), compare_classes(tables), compare_runs(tables, train_images, images)


def _evaluate(
    runs: MethodRuns,
    train_counts: Sequence[int],
    clinical: ClinicalResults,
    coverage: float,
    *,
    test_set: bool,
    best: bool,
    drawn: bool,
) -> MethodResults:
    out_of_fold = test = test_ensemble = calibration = label_calibration = sets = shift = None
    thresholds: tuple[float, ...] = ()
    operating: tuple[OperatingPoint, ...] = ()
    groups: tuple[Subgroup, ...] = ()
    contrasts: tuple[SubgroupContrasts, ...] = ()
    curves: dict[str, tuple[Curve, Curve]] = {}
    decision = None
    try:
        if runs.complete and runs.multi_label:
            label_calibration = calibrate_labels(runs.label_replicates)
            of_labels = label_calibration.map
            calibrated_rows = replicates_by_group(label_calibration.tables, runs.predict_by)
            out_of_fold = evaluate_labels(calibrated_rows, train_counts=train_counts)
            thresholds = tuple(
                deployed_thresholds(runs.label_replicates, of_labels, runs.predict_by).tolist()
            )
            curves = label_curves(runs.evaluated_labels) if best else {}
            # Operating points have thresholds for `predict`, and so its map, which changes no order of images.
            mapped_rows = replicates_by_group(
                [apply_label_map(of_labels, table) for table in runs.label_replicates], runs.predict_by
            )
            operating = clinical.label_points(mapped_rows)
            groups = clinical.label_groups(runs.label_replicates)
            asked = [index for index, _ in clinical.operating]
            decision = label_net_benefit_curve(calibrated_rows, asked) if drawn else None
            found_labels = runs.label_test_replicates() if test_set else []
            labels = [apply_label_map(of_labels, table) for table in found_labels]
            with_counts = partial(evaluate_labels, thresholds=thresholds, train_counts=train_counts)
            test = with_counts(replicates_by_group(labels, runs.predict_by)) if labels else None
            # As in `predict`: the models first, then the images of a group.
            ensembled = by_group(ensemble_labels(labels), runs.predict_by) if labels else None
            test_ensemble = with_counts([ensembled]) if ensembled else None
        elif runs.complete:
            evaluated = partial(evaluate, train_counts=train_counts, class_order=clinical.class_order)
            calibrated = calibrate_out_of_fold(runs.replicates)
            out_of_fold = evaluated(calibrated.tables)
            calibration = calibration_of(runs.replicates, calibrated)
            sets, shift = prediction_sets(calibrated.tables, coverage), shift_reference(calibrated.tables)
            found = runs.test_replicates() if test_set else []
            on_test = [apply_map(calibrated.map, table) for table in found]
            test = evaluated(on_test) if on_test else None
            test_ensemble = evaluated([ensemble(on_test)]) if on_test else None
            operating, groups = clinical.points(calibrated.tables), clinical.groups(calibrated.tables)
            asked = [index for index, _ in clinical.operating]
            decision = net_benefit_curve(calibrated.tables, asked) if drawn else None
            if best:
                curves = class_curves(calibrated.tables)
                contrasts = clinical.contrasts(calibrated.tables)
    except ValueError as error:
        raise disagreeing(runs.method, error) from error
    return MethodResults(
        method=runs.method,
        finished=len(runs.finished),
        expected=len(runs.wanted),
        failures=tuple(
            f"seed {run['seed']}, fold {run['fold']}: {run.get('message') or 'no message'}"
            for run in runs.described
            if run.get("status") == "failed"
        ),
        score=runs.score,
        out_of_fold=out_of_fold,
        test=test,
        test_ensemble=test_ensemble,
        histories=tuple(
            _history(folder / HISTORY)
            for folder in runs.finished.values()
            if (folder / HISTORY).is_file()  # a head that is fitted after training has none
        ),
        endings=runs.endings,
        still_falling=runs.still_falling,
        thresholds=thresholds,
        repeat_scores=runs.repeat_scores,
        calibration=calibration,
        prediction_sets=sets,
        shift=shift,
        label_calibration=label_calibration,
        operating=operating,
        subgroups=groups,
        contrasts=contrasts,
        curves=curves,
        decision=decision,
    )


def _history(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_csv(regular(path))
        if texts := list(frame.select_dtypes(exclude="number")):
            raise ValueError(f"expected numbers in column {texts[0]}")
        _ = frame[["epoch", "step", "loss", "lr"]]
        return frame
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"expected the history of a run at {path}, but it cannot be read: {error}") from error


def _count(directory: Path, class_names: Sequence[str], *, multi_label: bool) -> SetCounts:
    import pandas as pd

    try:
        table = read_frame(directory / "table.parquet", ["image", "label", "group"])
        splits = pd.read_csv(
            directory / "splits.csv", dtype={"image": str}, keep_default_na=False, usecols=["image", "part"]
        )
        joined = table.merge(splits, on="image", validate="one_to_one")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"expected the table and the splits of a study in {directory}: {error}") from error
    if len(joined) != len(table):
        raise DataError(
            f"expected one of training and test set for each of {len(table)} images in {directory}, found {len(joined)}"
        )
    parts = {part: joined[joined["part"] == part] for part in ("train", "test")}
    per_class = {}
    for part, rows in parts.items():
        found = Counter(
            name
            for label in rows["label"]
            for name in (label.split(LABEL_SEPARATOR) if multi_label else [label])
        )
        per_class[part] = {name: found[name] for name in class_names}
    return SetCounts(
        per_class["train"],
        per_class["test"],
        int(parts["train"]["group"].nunique()),
        int(parts["test"]["group"].nunique()),
        len(parts["train"]),
        len(parts["test"]),
    )
