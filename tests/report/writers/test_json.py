"""metrics.json: it keeps to its schema, and its numbers are those of scikit-learn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cli.test_evaluate import two_models  # noqa: F401
from fixtures.json_schema import errors
from fixtures.label_study import write_label_study
from tametail.predictions.single_label import read_predictions
from tametail.report import read_results, write_report
from tametail.report.writers.json import MOST_JSON_CLASSES, metrics_json, metrics_schema

MakeStudy = Callable[..., Path]


def load(folder: Path) -> dict[str, Any]:
    def refuse(text: str) -> None:
        pytest.fail(f"{text} is no JSON")

    content: dict[str, Any] = json.loads(
        (folder / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse
    )
    return content


def misfits(content: dict[str, Any]) -> list[str]:
    schema = metrics_schema()
    return errors(content, schema, schema)


def test_studies_before_and_after_the_test_set_evaluation_fit_the_schema(
    held_out_study: Path, evaluated_study: Path
) -> None:
    for study in (held_out_study, evaluated_study):
        content = load(study)
        assert misfits(content) == []
        assert content["schema"] == "tametail.metrics/3"


def test_an_evaluation_with_operating_points_and_subgroups_fits(two_models: Path) -> None:  # noqa: F811
    content = load(two_models / "out")
    assert misfits(content) == []
    assert content["kind"] == "evaluation"
    assert content["methods"][0]["operating_points"]
    assert content["methods"][0]["subgroups"]
    assert "patient" not in json.dumps(content)


def test_a_multi_label_study_fits(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study", test_set_evaluations=1, absent_from_test="scar")
    write_report(study)
    content = load(study)
    assert misfits(content) == []
    scar = next(one for one in content["methods"][0]["test"]["classes"] if one["name"] == "scar")
    assert scar["metrics"]["average_precision"] == {"value": None, "low": None, "high": None, "n": 0}


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda c: c.pop("methods"), "methods is missing"),
        (lambda c: c.update(more=1), "more is not allowed"),
        (lambda c: c["methods"][0].update(rank="1"), "rank: '1' is no integer or null"),
        (lambda c: c["methods"][0]["out_of_fold"]["metrics"]["mcc"].update(n=-1), "out of range"),
        (lambda c: c["pairs"][0].update(verdict="best"), "is none of"),
        (lambda c: c.update(schema="tametail.metrics/1"), "is not 'tametail.metrics/3'"),
        (lambda c: c["classes"][0].update(name=True), "is no string"),
    ],
)
def test_the_validator_sees_what_does_not_fit(
    held_out_study: Path, break_it: Callable[[dict[str, Any]], Any], said: str
) -> None:
    content = load(held_out_study)
    break_it(content)
    assert any(said in fault for fault in misfits(content))


def test_numbers_are_those_of_the_predictions(held_out_study: Path) -> None:
    content = load(held_out_study)
    found = next(one for one in content["methods"] if one["method"] == "asl")["out_of_fold"]
    tables = [read_predictions(path) for path in held_out_study.glob("runs/asl/*/predictions.parquet")]
    target = np.concatenate([table.target for table in tables])
    predicted = np.concatenate([table.predicted for table in tables])
    expected = {
        "balanced_accuracy": sklearn.balanced_accuracy_score(target, predicted),
        "macro_f1": sklearn.f1_score(target, predicted, average="macro"),
        "accuracy": sklearn.accuracy_score(target, predicted),
        "mcc": sklearn.matthews_corrcoef(target, predicted),
    }
    for name, value in expected.items():
        estimate = found["metrics"][name]
        assert estimate["value"] == pytest.approx(value, abs=1e-9)
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert content["metrics"][name]["greater_is_better"]
    assert found["confusion"] == sklearn.confusion_matrix(target, predicted).tolist()
    precision = sklearn.precision_score(target, predicted, average=None)
    for index, of_class in enumerate(found["classes"]):
        assert of_class["metrics"]["precision"]["value"] == pytest.approx(precision[index], abs=1e-9)
        assert of_class["n"] == np.sum(target == index)


def test_pairs_and_ranks_agree(held_out_study: Path) -> None:
    content = load(held_out_study)
    ranked = [one["method"] for one in content["methods"]]
    assert [one["rank"] for one in content["methods"]] == [1, 2, 3]
    assert [(pair["a"], pair["b"]) for pair in content["pairs"]] == [
        (ranked[0], ranked[1]),
        (ranked[0], ranked[2]),
        (ranked[1], ranked[2]),
    ]
    for pair in content["pairs"]:
        a, b = (
            next(one["score"] for one in content["methods"] if one["method"] == pair[side]) for side in "ab"
        )
        assert pair["difference"]["value"] == pytest.approx(a - b, abs=1e-9)


def test_what_is_not_finished_or_held_out_is_null(make_study: MakeStudy) -> None:
    study = make_study(methods=("alpa", "ce"))
    shutil.rmtree(study / "runs" / "alpa" / "seed0-fold1")
    content = json.loads(metrics_json(read_results(study)))
    assert misfits(content) == []
    alpa = next(one for one in content["methods"] if one["method"] == "alpa")
    assert (alpa["rank"], alpa["score"], alpa["out_of_fold"], alpa["test"]) == (None, None, None, None)
    assert alpa["runs"] == {"finished": 2, "expected": 3}
    assert content["pairs"] is None


def test_a_large_confusion_matrix_is_left_to_the_predictions(make_study: MakeStudy) -> None:
    names = [f"class{number:03}" for number in range(MOST_JSON_CLASSES + 1)]
    study = make_study(methods=("ce",), class_names=names, counts=[6] * len(names), images_per_group=1)
    content = json.loads(metrics_json(read_results(study)))
    assert misfits(content) == []
    assert content["methods"][0]["out_of_fold"]["confusion"] is None


def test_no_path_time_or_group(evaluated_study: Path) -> None:
    text = (evaluated_study / "metrics.json").read_text(encoding="utf-8")
    assert str(evaluated_study) not in text
    assert "patient" not in text
    assert "2026-" not in text
