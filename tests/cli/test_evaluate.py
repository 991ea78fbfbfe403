"""tametail evaluate on predictions of models that were trained elsewhere."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cli.test_app import run
from fixtures.plain_figures import figures_not_rendered
from fixtures.predictions_csv import CLASSES, expected_of, frame_of, write
from tametail.predictions.single_label import read_predictions
from tametail.storage.evaluation_file import read_evaluation_file, read_tables

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a.csv, b.parquet and their evaluation; tests only read it."""
    folder = tmp_path_factory.mktemp("two")
    paths = [write(frame_of(0), folder / "a.csv"), write(frame_of(1, skill=0.5), folder / "b.parquet")]
    options = ("--by", "sex", "--by", "age", "--operating", "mel=0.9", "--operating", "nv=1")
    with figures_not_rendered():
        code, output, errors = run("evaluate", *paths, "-o", folder / "out", *options)
    assert (code, errors) == (0, ""), errors
    (folder / "output.txt").write_text(output, encoding="utf-8")
    return folder


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as handle:
        return {row["method"]: row for row in csv.DictReader(handle)}


def numbers_of(folder: Path, **of: str) -> list[dict[str, str]]:
    """The rows of results_long.csv with these cells."""
    with (folder / "results_long.csv").open(encoding="utf-8", newline="") as handle:
        return [row for row in csv.DictReader(handle) if of.items() <= row.items()]


def test_the_ranking_is_printed(two_models: Path) -> None:
    output = (two_models / "output.txt").read_text(encoding="utf-8")
    assert output.startswith("On these images, with 95 % intervals.\n")
    assert "Rank  Model" in output
    assert f"Report: {two_models / 'out' / 'report.html'}" in output
    assert "est part" not in output


def test_numbers_are_those_of_the_predictions(two_models: Path) -> None:
    rows = rows_of(two_models / "out")
    for name, seed, skill in (("a", 0, 1.5), ("b", 1, 0.5)):
        table = expected_of(frame_of(seed, skill=skill))
        found = float(rows[name]["balanced_accuracy"])
        assert found == pytest.approx(
            sklearn.balanced_accuracy_score(table.target, table.predicted), abs=1e-6
        )
        assert rows[name]["n"] == "150"
        assert rows[name]["groups"] == "75"
        females = np.array(frame_of()["sex"] == "f")
        assert float(rows[name]["by_sex_f_accuracy"]) == pytest.approx(
            (table.predicted == table.target)[females].mean(), abs=1e-6
        )
        (number,) = numbers_of(two_models / "out", method=name, set="by_sex_f", metric="accuracy")
        assert (number["value"], number["n"]) == (rows[name]["by_sex_f_accuracy"], str(females.sum()))
        assert float(rows[name]["sensitivity_at_0.9_mel"]) > 0.8
        assert "folds" not in rows[name]


def test_the_page_has_no_recipe_no_test_set_and_no_fold(two_models: Path) -> None:
    page = (two_models / "out" / "report.html").read_text(encoding="utf-8")
    text = (two_models / "out" / "results.md").read_text(encoding="utf-8")
    for written in (page, text):
        assert "n these images" in written
        assert "ut of fold" not in written
        assert "est part" not in written
        assert "raining images" not in written
        assert "patient" not in written.replace("patients", "")
    assert "Recipe" not in page
    assert "required sensitivity 90.0 %" in page
    assert "a, by sex" in page
    assert "unknown" in page
    assert "a.csv, b.parquet" in page
    assert str(two_models) not in page
    assert "tametail evaluate a.csv b.parquet" in page


def test_the_report_can_be_made_from_the_folder_again(two_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "moved"
    shutil.copytree(two_models / "out", out)
    before = {name: (out / name).read_bytes() for name in ("results.csv", "results.md", "report.html")}
    for name in before:
        (out / name).unlink()
    assert run("report", out)[0] == 0
    assert {name: (out / name).read_bytes() for name in before} == before
    about = read_evaluation_file(out)
    (table,) = read_tables(out, about.models[0])
    np.testing.assert_array_equal(table.target, expected_of(frame_of()).target)
    assert read_predictions(out / "predictions" / "a.parquet").class_names == CLASSES


def test_a_second_evaluation_replaces_the_first(two_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(two_models / "out", out)
    assert run("evaluate", two_models / "b.parquet", "-o", out)[0] == 0
    assert [path.name for path in (out / "predictions").iterdir()] == ["b.parquet"]
    assert not (out / "columns.parquet").exists()
    assert "It is the only model" in (out / "results.md").read_text(encoding="utf-8")


def test_nothing_is_written_where_something_else_is(two_models: Path) -> None:
    code, _, errors = run("evaluate", two_models / "a.csv", "-o", two_models)
    assert code == 2
    assert "expected an empty folder or an evaluation" in errors


@pytest.mark.parametrize(
    "words",
    [["--class-order", "none,mild,severe"], ["--ordered", "--classes", "none,mild,severe"]],
)
def test_grades_have_a_kappa_in_the_given_order(tmp_path: Path, words: list[str]) -> None:
    path = write(frame_of(classes=("none", "mild", "severe")), tmp_path / "grades.csv")
    code, output, errors = run("evaluate", path, "-o", tmp_path / "out", *words, "--quiet")
    assert (code, errors) == (0, "")
    assert "The classes are ordinal: none < mild < severe." in output
    about = read_evaluation_file(tmp_path / "out")
    assert about.class_order == ("none", "mild", "severe")
    assert set(words) <= set(about.command.split())
    from tametail.report.study.evaluation_results import read_evaluation

    (model,) = read_evaluation(tmp_path / "out").methods
    table = expected_of(frame_of(classes=("none", "mild", "severe")), ("none", "mild", "severe"))
    assert model.out_of_fold is not None
    assert model.out_of_fold["kappa"].value == pytest.approx(
        sklearn.cohen_kappa_score(table.target, table.predicted, weights="quadratic")
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ordered"], "for --ordered, from the lowest grade to the highest"),
        (["--ordered"], "here by name: mild, none, severe"),
        (["--class-order", "none,mild,sever,mild"], "missing: severe; unknown: sever; more than once: mild"),
        (["--class-order", "none,mild,severe", "--unordered"], "leave one of them out"),
    ],
)
def test_the_order_of_grades_is_asked_for(tmp_path: Path, words: list[str], message: str) -> None:
    path = write(frame_of(classes=("none", "mild", "severe")), tmp_path / "grades.csv")
    code, _, errors = run("evaluate", path, "-o", tmp_path / "out", *words)
    assert code == 2
    assert message in errors
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_numbered_grades_need_no_order(tmp_path: Path) -> None:
    path = write(frame_of(classes=("G1", "G10", "G2")), tmp_path / "grades.csv")
    code, output, _ = run("evaluate", path, "-o", tmp_path / "out", "--ordered")
    assert code == 0
    assert "G1 < G2 < G10" in output


def test_an_absent_class_is_said_and_in_no_mean(tmp_path: Path) -> None:
    frame = frame_of(classes=("bcc", "mel", "nv", "vasc"))
    frame = frame[frame["label"] != "vasc"]
    out = tmp_path / "out"
    code, _, errors = run("evaluate", write(frame, tmp_path / "a.csv"), "-o", out, "--operating", "vasc=0.9")
    assert code == 0
    assert "Warning: no image of vasc" in errors
    row = rows_of(out)["a"]
    assert (row["recall_vasc"], row["n_vasc"]) == ("", "0")
    assert row["sensitivity_at_0.9_vasc"] == row["threshold_vasc_0.9"] == ""
    assert "Absent classes, excluded from means" in (out / "report.html").read_text(encoding="utf-8")


def test_hostile_names_do_no_harm(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", "=cmd()", "nv")
    frame = frame_of(classes=classes).assign(**{"=site": "<img src=x>"})
    path = write(frame, tmp_path / "<b>a & b.csv")
    out = tmp_path / "out"
    code, _, errors = run("evaluate", path, "-o", out, "--by", "=site", "--operating", "=cmd()=0.9")
    assert code == 0, errors
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<b>a &" not in page
    assert "&lt;script&gt;alert(1)" in page
    with (out / "results.csv").open(encoding="utf-8", newline="") as handle:
        cells = [cell for row in csv.reader(handle) for cell in row]
    assert not [cell for cell in cells if cell.startswith("=")]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent.csv"], 3, "nothing is there"),
        (["FOLDER"], 3, "--data"),
        (["A", "--operating", "mel"], 2, "melanoma=0.95"),
        (["A", "--operating", "mel=95"], 2, "at most 1"),
        (["A", "--operating", "melanoma=0.9"], 2, "expected one of the classes for --operating"),
        (["A", "--by", "site"], 2, "found sex, age"),
        (["A", "--map", "x=mel"], 2, "--map can only be given for a study with --data"),
        (["A", "--methods", "ce", "--drop-unknown"], 2, "--methods, --drop-unknown"),
        (["A", "A", "--data", "x"], 2, "expected one study with --data"),
        (["A", "--data", "demo"], 3, "expected a study"),
        (["FOLDER", "--data", "demo", "--classes", "a,b"], 2, "a study has its classes"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    path = write(frame_of(), tmp_path / "a.csv")
    words = [str({"A": path, "FOLDER": tmp_path}.get(word, word)) for word in words]
    found, _, errors = run("evaluate", *words, "-o", tmp_path / "out")
    assert found == code, errors
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_tables_are_evaluated_without_torch(tmp_path: Path) -> None:
    path = write(frame_of(), tmp_path / "a.csv")
    code = (
        "import sys; from pathlib import Path; from tametail.external.evaluate_files import evaluate_files; "
        f"evaluate_files([Path({str(path)!r})], Path({str(tmp_path / 'out')!r})); "
        "print([m for m in ('torch', 'timm', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
