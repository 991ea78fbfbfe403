"""tametail search, and what it answers to mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.test_app import OPTIONS, run
from tametail.search import search as search_module

SEARCH = [*OPTIONS, "--epochs", "2", "--lr", "0.01", "--folds", "3", "--quiet"]


def test_search_prints_the_answer_and_where_the_report_is(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    code, output, errors = run("search", image_folder, "--loss", "focal", "--trials", "3", "-o", out, *SEARCH)
    assert (code, errors) == (0, "")
    assert "Tuned, focal reaches a balanced accuracy of" in output
    assert "Best: focal[alpha=" in output
    assert output.splitlines()[-1] == f"Report: {out / 'search.html'}"
    assert run("search", image_folder, "--loss", "focal", "--trials", "3", "-o", out, *SEARCH) == (
        0,
        output,
        "",
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent"], 3, "absent"),
        (["DATA", "--loss", "alpha"], 2, "alpa"),
        (["DATA", "--loss", "alpa,ce"], 2, "one method to search, got 2"),
        (["DATA", "--trials", "0"], 2, "--trials of 1 to"),
        (["DATA", "--folds", "2"], 2, "at least 3 folds"),
        (["DATA", "--folds", "9"], 3, "at most 4"),
        (["DATA", "--sampler", "grid"], 2, "random, tpe"),
        (["DATA", "--metric", "auc"], 2, "balanced_accuracy"),
        (["DATA", "--space", "gamma=0:5"], 2, "gamma_neg"),
        (["DATA", "--loss", "focal", "--space", "gamma=1.0001:1.0004"], 2, "first 3 digits"),
        (["DATA", "--loss", "ce[label_smoothing=0.1]"], 2, "no default space or whose text fixes all of it"),
        (["DATA", "--recipe", "hed"], 2, "did you mean head"),
    ],
)
def test_mistakes_give_a_message_a_code_and_no_traceback(
    image_folder: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    words = [str(image_folder) if word == "DATA" else word for word in words]
    found, _, errors = run("search", *OPTIONS, *words, "-o", tmp_path / "s")
    assert found == code, errors
    assert message in errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("Error: ")


def test_a_folder_of_something_else_is_left_alone(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    code, _, errors = run("search", image_folder, "-o", tmp_path, *SEARCH)
    assert code == 2
    assert "thesis.txt" in errors
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_ctrl_c_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, image_folder: Path, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_module, "search", interrupted)
    code, _, errors = run("search", image_folder, "-o", tmp_path / "s")
    assert code == 130
    assert "repeat the command" in errors
