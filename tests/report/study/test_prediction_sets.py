"""Prediction sets in the report and the files of a study, and the thresholds that predict uses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fixtures.label_study import write_label_study
from tametail.core.errors import DataError, UsageError
from tametail.evaluation.calibration_maps import calibrate_out_of_fold
from tametail.evaluation.conformal import class_thresholds, prediction_sets, score_distributions
from tametail.evaluation.label_calibration import LabelMap, calibrate_labels
from tametail.predictions.single_label import concatenate, read_predictions
from tametail.report import write_report
from tametail.report.study.calibration_file import calibration_for_new_images
from tametail.report.study.runs import find_runs
from tametail.storage.study_file import read_study_file

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def study(make_study: Callable[..., Path]) -> Path:
    """A study in which basophils are of 4 patients of the training set."""
    study = make_study(methods=("asl", "ce"))
    write_report(study)
    return study


def test_coverage_and_size_of_each_class_are_in_every_file(study: Path) -> None:
    parts = sorted(study.glob("runs/ce/*/predictions.parquet"))
    tables = calibrate_out_of_fold([concatenate([read_predictions(path) for path in parts])]).tables
    expected = prediction_sets(tables)
    assert expected.too_rare[0] == "basophil"
    methods = json.loads((study / "metrics.json").read_text(encoding="utf-8"))["methods"]
    (found,) = (one["prediction_sets"] for one in methods if one["method"] == "ce")
    assert found["required_coverage"] == 0.9
    for one, of_class in zip(found["classes"], expected.classes, strict=True):
        assert one["coverage"]["value"] == pytest.approx(of_class.coverage.value)
        assert (one["groups"], one["too_rare"]) == (of_class.groups, of_class.name in expected.too_rare)
    long = list(csv.DictReader((study / "results_long.csv").read_text(encoding="utf-8").splitlines()))
    rows = [row for row in long if row["metric"] == "set_coverage_at_0.9" and row["method"] == "ce"]
    assert [row["class"] for row in rows] == ["", *(one.name for one in expected.classes)]
    assert float(rows[0]["value"]) == pytest.approx(expected.coverage.value, abs=1e-6)
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "at 90 % coverage" in page
    assert "Too rare for 90 %" in page
    assert "basophil" in page[page.index("Too rare for") :][:300]


def test_thresholds_travel_with_the_calibration_map(study: Path) -> None:
    """The same from the file and, where it is absent or of an earlier version, from the predictions."""
    of_file = calibration_for_new_images(study, "ce").distributions
    path = study / "calibration.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    again = calibration_for_new_images(study, "ce").distributions
    for coverage in (0.8, 0.9):
        np.testing.assert_allclose(
            class_thresholds(of_file, coverage), class_thresholds(again, coverage), atol=2e-6
        )
    del saved["ce"]["prediction_sets"]
    path.write_text(json.dumps(saved), encoding="utf-8")
    earlier = calibration_for_new_images(study, "ce").distributions
    assert class_thresholds(earlier, 0.9).tolist() == class_thresholds(again, 0.9).tolist()
    saved["ce"]["prediction_sets"] = [{"scores": "many"}]
    path.write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(DataError, match="calibration maps of the study"):
        calibration_for_new_images(study, "ce")


def test_another_coverage_is_used_and_remembered(study: Path) -> None:
    write_report(study, coverage=0.5)
    for _ in range(2):
        first = json.loads((study / "metrics.json").read_text(encoding="utf-8"))["methods"][0][
            "prediction_sets"
        ]
        assert first["required_coverage"] == 0.5
        assert not any(one["too_rare"] for one in first["classes"])
        assert "at 50 % coverage" in (study / "report.html").read_text(encoding="utf-8")
        write_report(study)
    with pytest.raises(UsageError, match="above 0 and below 1, got 90"):
        write_report(study, coverage=90)


def test_a_method_with_a_part_of_its_repeats_is_calibrated_on_the_whole_ones(
    make_study: Callable[..., Path], tmp_path: Path
) -> None:
    """A repeat that lacks a fold is of fewer images, and cannot be averaged with the others."""
    of_classes = make_study(methods=("ce",), seeds=(0, 1))
    of_labels = write_label_study(tmp_path / "labels", methods=("bce",), seeds=(0, 1))
    for study, method in ((of_classes, "ce"), (of_labels, "bce")):
        whole = find_runs(study, read_study_file(study))[0].only([(0, 0), (0, 1), (0, 2)])
        shutil.rmtree(study / "runs" / method / "seed1-fold1")
        calibration, distributions, _ = calibration_for_new_images(study, method)
        if study is of_labels:
            assert distributions == ()
            assert isinstance(calibration, LabelMap)
            assert np.array_equal(calibration.slope, calibrate_labels(whole.label_replicates).map.slope)
        else:
            expected = score_distributions(calibrate_out_of_fold(whole.replicates).tables)
            assert class_thresholds(distributions, 0.8).tolist() == class_thresholds(expected, 0.8).tolist()
