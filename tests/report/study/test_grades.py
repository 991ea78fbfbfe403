"""The report of a study of ordinal classes: their order is asked for, used, shown and remembered."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk

from cli.test_app import run
from tametail.core.errors import UsageError
from tametail.predictions.single_label import concatenate, read_predictions
from tametail.report import write_report
from tametail.report.options import load_options
from tametail.report.writers.markdown_table import markdown_text

pytestmark = pytest.mark.usefixtures("without_figures")
GRADES = ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR")
WORDS = "No_DR < Mild < Moderate < Severe < Proliferate_DR"


@pytest.fixture
def study(make_study: Callable[..., Path]) -> Path:
    """A study of grades whose names sort otherwise."""
    return make_study(methods=("ce",), class_names=GRADES, counts=(200, 60, 90, 30, 24))


def with_order(study: Path, order: tuple[str, ...] = GRADES) -> None:
    """Store an order in the study, as compare does."""
    described = json.loads((study / "study.json").read_text(encoding="utf-8"))
    (study / "study.json").write_text(json.dumps(described | {"class_order": order}), encoding="utf-8")


def scikit_learns(study: Path, order: tuple[str, ...] = GRADES) -> float:
    table = concatenate(
        [read_predictions(path) for path in sorted(study.glob("runs/ce/*/predictions.parquet"))]
    )
    number = np.array([order.index(name) for name in table.class_names])
    kappa = sk.cohen_kappa_score(number[table.target], number[table.predicted], weights="quadratic")
    return float(kappa)


def content(study: Path, name: str) -> str:
    return (study / name).read_text(encoding="utf-8")


def kappa(study: Path) -> float | None:
    """As metrics.json has it."""
    found = json.loads(content(study, "metrics.json"))["methods"][0]["out_of_fold"]["metrics"].get("kappa")
    return None if found is None else float(found["value"])


def test_the_order_in_the_study_is_used_and_shown_without_being_given_again(study: Path) -> None:
    with_order(study)
    write_report(study)
    assert kappa(study) == pytest.approx(scikit_learns(study))
    assert abs(scikit_learns(study) - scikit_learns(study, tuple(sorted(GRADES)))) > 0.01
    assert json.loads(content(study, "metrics.json"))["class_order"] == list(GRADES)
    assert WORDS.replace("<", "&lt;") in content(study, "report.html")
    assert markdown_text(WORDS) in content(study, "results.md")
    assert f"--class-order {','.join(GRADES)}" in content(study, "report.html")
    (row,) = csv.DictReader(content(study, "results.csv").splitlines())
    assert row["class_order"] == WORDS
    assert float(row["kappa"]) == pytest.approx(scikit_learns(study), abs=1e-6)
    assert float(row["kappa_low"]) < float(row["kappa"]) < float(row["kappa_high"])


def test_an_order_that_a_report_is_given_is_remembered_and_comes_before_that_of_the_study(
    study: Path,
) -> None:
    turned = (*GRADES[:3], *GRADES[:2:-1])
    with_order(study, turned)
    write_report(study, class_order=list(GRADES))
    assert (load_options(study).class_order, load_options(study).ordered) == (GRADES, True)
    write_report(study)
    assert kappa(study) == pytest.approx(scikit_learns(study))
    write_report(study, class_order=[])
    assert kappa(study) == pytest.approx(scikit_learns(study, turned))
    write_report(study, ordered=False)
    assert kappa(study) is None
    assert json.loads(content(study, "metrics.json"))["class_order"] is None
    assert "class_order" not in content(study, "results.csv")


def test_ordered_asks_for_the_order_and_changes_nothing(study: Path) -> None:
    code, _, errors = run("report", study, "--ordered")
    assert code == 2
    assert "here by name: Mild, Moderate, No_DR, Proliferate_DR, Severe" in errors
    assert not (study / "report.html").exists()
    assert load_options(study).ordered is None
    code, _, errors = run("report", study, "--class-order", "No_DR,Mild,Moderate,Severe")
    assert code == 2
    assert "(missing: Proliferate_DR)" in errors
    with pytest.raises(UsageError, match="leave one of them out"):
        write_report(study, class_order=GRADES, ordered=False)


def test_the_command_says_which_order_it_used(study: Path) -> None:
    code, _, errors = run("report", study, "--class-order", ",".join(GRADES))
    assert code == 0
    assert f"The classes are ordinal: {WORDS}." in errors
    assert kappa(study) == pytest.approx(scikit_learns(study))


def test_numbered_grades_are_in_the_order_of_their_numbers(make_study: Callable[..., Path]) -> None:
    names = ("grade_1", "grade_2", "grade_10")
    study = make_study(methods=("ce",), class_names=names, counts=(90, 60, 40))
    write_report(study)
    assert kappa(study) is None
    write_report(study, ordered=True)
    assert kappa(study) == pytest.approx(scikit_learns(study, names))


def test_errors_in_grades_are_in_every_file_and_the_confusion_matrix_is_in_order(study: Path) -> None:
    with_order(study)
    write_report(study)
    table = concatenate(
        [read_predictions(path) for path in sorted(study.glob("runs/ce/*/predictions.parquet"))]
    )
    number = np.array([GRADES.index(name) for name in table.class_names])
    grades = number[table.target], number[table.predicted]
    (row,) = csv.DictReader(content(study, "results.csv").splitlines())
    assert float(row["mean_absolute_error"]) == pytest.approx(sk.mean_absolute_error(*grades), abs=1e-6)
    assert float(row["off_by_one_accuracy"]) == pytest.approx(
        np.mean(abs(np.subtract(*grades)) <= 1), abs=1e-6
    )
    described = json.loads(content(study, "metrics.json"))["metrics"]["mean_absolute_error"]
    assert (described["high"], described["greater_is_better"]) == (None, False)
    page = content(study, "report.html")
    assert "Mean absolute error" in page
    matrix = page[page.index('class="confusion') :]
    matrix = matrix[: matrix.index("</table>")]
    rows = [matrix.index(f'<th scope="row"><span title="{name}">') for name in GRADES]
    assert rows == sorted(rows)
