from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.skin import WORDS, write_skin
from tametail.cli.app import app
from tametail.storage.study_file import read_test_set_evaluations


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_sealed_compares_out_of_fold_and_opens_nothing(tmp_path: Path) -> None:
    """With other spellings of the classes, and the recipe that trains quickest."""
    skin, out = write_skin(tmp_path / "skin", {"nv": "Nevus"}), tmp_path / "t4"
    quick = [
        "--recipe",
        "head",
        "--folds",
        "2",
        "--set",
        "l2=0.1",
        "--device",
        "cpu",
        *WORDS,
    ]
    code, output, errors = run("reproduce", "table4", "--root", skin, "--no-test-set", "-o", out, *quick)
    assert code == 0
    assert "Differs from the paper in: evaluation: cross-validation" in errors
    assert output.startswith("Table 4 of the paper")
    assert "The test set is held out" in output
    assert f"Table: {out / 'reproduce.md'}\nReport: {out / 'report.html'}" in output
    assert not read_test_set_evaluations(out)
    assert not list(out.glob("runs/*/*/test_predictions.parquet"))
    content = json.loads((out / "reproduce.json").read_text(encoding="utf-8"))
    assert content["classes"][5]["here"] == "Nevus"
    measured = content["methods"][0]["measured"]
    assert list(measured) == ["out_of_fold"]
    assert sum(one["recall"]["n"] for one in measured["out_of_fold"]["classes"].values()) == sum(
        one["train"]["here"] for one in content["classes"]
    )


def test_figure1_is_drawn_without_data(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "figure.svg"
    code, output, errors = run("reproduce", "figure1", "-o", out)
    assert (code, errors) == (0, "")
    assert output.splitlines()[0] == str(out)
    assert "the most confident false alarms contribute least" in output
    assert "<svg" in out.read_text(encoding="utf-8")


def test_figure1_refuses_what_it_has_no_use_for(tmp_path: Path) -> None:
    code, _, errors = run("reproduce", "figure1", "--root", tmp_path, "--variant", "paper", "--set", "a=1")
    assert code == 2
    assert "got --root, --set, --variant" in errors


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["table9"], 2, "expected one of table2, table3, table4, table5, figure1"),
        (["table4"], 3, "expected the folder of ham10000 in --root, but it was not given"),
        (["table3", "--root", "absent"], 3, "expected the folder of aptos2019 in --root"),
        (["table4", "--recipe", "papier"], 2, "expected a recipe"),
        (["table4", "--variant", "taylor"], 2, "expected --variant as one of"),
    ],
)
def test_mistakes_are_told_in_words(words: list[str], code: int, message: str) -> None:
    found, output, errors = run("reproduce", *words)
    assert (found, output) == (code, "")
    assert message in errors
