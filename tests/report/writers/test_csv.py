from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score

from tametail.core.errors import DataError
from tametail.predictions.single_label import read_predictions
from tametail.report import read_results, results_table, write_report
from tametail.report.writers.csv import results_csv
from tametail.report.writers.markdown import results_markdown

MakeStudy = Callable[..., Path]
ODD = ("<script>alert(1)</script>", "=cmd()", "naïve | *白血球*", 'a,b "c"')


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_numbers_are_those_of_scikit_learn(held_out_study: Path) -> None:
    row = next(row for row in rows_of((held_out_study / "results.csv").read_text()) if row["method"] == "asl")
    tables = [read_predictions(path) for path in held_out_study.glob("runs/asl/*/predictions.parquet")]
    target = np.concatenate([table.target for table in tables])
    predicted = np.concatenate([table.logits.argmax(axis=1) for table in tables])
    expected = {
        "balanced_accuracy": balanced_accuracy_score(target, predicted),
        "macro_f1": f1_score(target, predicted, average="macro"),
        "accuracy": accuracy_score(target, predicted),
    }
    recalls, f1s = recall_score(target, predicted, average=None), f1_score(target, predicted, average=None)
    for index, name in enumerate(tables[0].class_names):
        expected |= {f"recall_{name}": recalls[index], f"f1_{name}": f1s[index]}
        assert int(row[f"n_{name}"]) == np.sum(target == index)
    for column, value in expected.items():
        assert float(row[column]) == pytest.approx(value, abs=5.1e-7)
        assert float(row[f"{column}_low"]) <= float(row[column]) <= float(row[f"{column}_high"])
    assert int(row["n"]) == len(target)
    assert (row["status"], row["folds"], row["repeats"]) == ("complete", "3", "1")


def test_results_are_the_same_bytes_again_and_elsewhere(held_out_study: Path, tmp_path: Path) -> None:
    shutil.copytree(held_out_study, tmp_path / "elsewhere")
    for name in ("results.csv", "results.md", "report.html"):
        (tmp_path / "elsewhere" / name).unlink()
    write_report(tmp_path / "elsewhere")
    for name in ("results.csv", "results.md", "report.html"):
        assert (tmp_path / "elsewhere" / name).read_bytes() == (held_out_study / name).read_bytes()


def test_results_csv_has_no_time_or_path(evaluated_study: Path) -> None:
    text = (evaluated_study / "results.csv").read_text()
    assert str(evaluated_study) not in text
    assert not re.search(r"\d{4}-\d\d-\d\d|\d:\d\d|seconds|/", text)


def test_test_columns_appear_with_the_test_set_evaluation(
    held_out_study: Path, evaluated_study: Path
) -> None:
    held_out, evaluated = (
        rows_of((study / "results.csv").read_text()) for study in (held_out_study, evaluated_study)
    )
    assert not [column for column in held_out[0] if column.startswith("test_")]
    assert float(evaluated[0]["test_balanced_accuracy"]) > 0
    assert float(evaluated[0]["test_ensemble_recall_blast_high"]) > 0
    assert evaluated[0]["repeats"] == "2"


def test_an_unfinished_method_has_a_state_and_no_numbers(make_study: MakeStudy) -> None:
    study = make_study(methods=("alpa", "ce"))
    shutil.rmtree(study / "runs" / "alpa" / "seed0-fold1")
    ce, alpa = rows_of(results_csv(read_results(study)))
    assert (ce["method"], ce["status"]) == ("ce", "complete")
    assert (alpa["method"], alpa["status"]) == ("alpa", "2 of 3 runs")
    assert {
        value
        for column, value in alpa.items()
        if column not in ("method", "data", "status", "folds", "repeats")
    } == {""}


def test_no_cell_is_a_formula(make_study: MakeStudy) -> None:
    study = make_study(methods=("=2+2", "ce"), class_names=ODD, counts=(30, 30, 40, 60))
    rows = list(csv.reader(io.StringIO(results_csv(read_results(study)))))
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert "'=2+2" in cells
    assert "recall_=cmd()" in rows[0]
    assert len({len(row) for row in rows}) == 1


def test_markdown_has_the_paper_s_table(held_out_study: Path) -> None:
    text = (held_out_study / "results.md").read_text(encoding="utf-8")
    table = text.split("## Classes in cross-validation\n\n")[1].split("\n\n")[0].splitlines()
    assert table[0].startswith(
        "| Class | Training images | n | Groups | alpa Recall, % | alpa F1 | asl Recall, % |"
    )
    assert table[2].startswith("| neutrophil | 240 | 240 |"), "the most frequent class is on top"
    assert table[-1].startswith("| Balanced accuracy")
    best = rows_of((held_out_study / "results.csv").read_text())[0]
    value, low, high = (100 * float(best[f"balanced_accuracy{end}"]) for end in ("", "_low", "_high"))
    assert f"**{value:.1f} ({low:.1f}–{high:.1f})**" in table[-1]
    assert "is held out" in text
    assert "Synthetic" not in text


def test_markdown_after_the_test_set_evaluation(evaluated_study: Path) -> None:
    text = (evaluated_study / "results.md").read_text(encoding="utf-8")
    assert "was evaluated twice" in text
    assert "Evaluation 1: the best method in cross-validation was alpa" in text
    assert "## Classes, test set, ensemble of fold models" in text
    assert "held out (" not in text


def test_markdown_escapes_and_says_synthetic(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",), class_names=ODD, counts=(30, 30, 40, 60), synthetic=True)
    text = results_markdown(read_results(study))
    assert "Synthetic demo images: these numbers say nothing about real images." in text
    assert "<script" not in text
    row = next(line for line in text.splitlines() if "naïve" in line)
    assert r"naïve \| \*白血球\*" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 7


def test_the_table_for_the_terminal(
    held_out_study: Path, evaluated_study: Path, make_study: MakeStudy
) -> None:
    lines = results_table(held_out_study).splitlines()
    assert lines[0].endswith("Test set: held out (not yet evaluated).")
    assert [line.split()[:2] for line in lines[1:]] == [
        ["Rank", "Method"],
        ["1", "alpa"],
        ["2", "asl"],
        ["3", "ce"],
    ]
    best = rows_of((held_out_study / "results.csv").read_text())[0]
    for column in ("balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high"):
        assert f"{100 * float(best[column]):.1f}" in lines[2]
    evaluated = results_table(evaluated_study).splitlines()
    assert evaluated[0].endswith("Test set: evaluated twice.")
    assert "ensemble, %" in evaluated[1]
    with pytest.raises(DataError, match="tametail report"):
        results_table(make_study(methods=("ce",)))


def test_the_terminal_shows_unfinished_methods_and_synthetic_images(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",), synthetic=True)
    shutil.rmtree(study / "runs" / "ce" / "seed0-fold1")
    write_report(study)
    text = results_table(study)
    assert "2 of 3 runs" in text
    assert text.endswith("these numbers say nothing about real images.")
