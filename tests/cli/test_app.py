from __future__ import annotations

import csv
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.tiny_study import STEP_BY_STEP, TINY, words
from tametail.cli.app import app

pytestmark = pytest.mark.usefixtures("without_figures")

OPTIONS = words(TINY)
COMPARE = [*OPTIONS, "--epochs", "2", "--lr", "0.01", "--folds", "3", "--quiet"]


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_compare_prints_a_table_and_where_the_report_is(image_folder: Path, tmp_path: Path) -> None:
    code, output, errors = run("compare", image_folder, "--methods", "ce", "-o", tmp_path / "s", *COMPARE)
    assert (code, errors) == (0, "")
    assert "ce" in output
    assert f"Report: {tmp_path / 's' / 'report.html'}" in output


def test_predict_writes_a_csv(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    out, study = tmp_path / "deep" / "p.csv", shutil.copytree(study_folder, tmp_path / "study")
    broken = tmp_path / "broken.jpg"
    page = tmp_path / "pages" / "p.html"
    code, output, errors = run("predict", study, image_folder / "images", broken, "-o", out, "--html", page)
    assert code == 3
    assert output.split() == [str(out), str(page)]
    assert page.read_text(encoding="utf-8").count("<img ") == 70
    assert "1 of 71 images could not be read" in errors
    with out.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 71
    assert rows[-1]["error"]
    assert sum(float(rows[0][f"p_{name}"]) for name in ("amber", "blue", "crimson")) == pytest.approx(
        1, abs=1e-5
    )


def test_predict_refuses_to_adapt_to_the_prevalence_of_few_images(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.csv"
    image = image_folder / "images" / "000.png"
    asked = (
        "predict",
        shutil.copytree(study_folder, tmp_path / "study"),
        image,
        "--adapt-prevalence",
        "-o",
        out,
    )
    code, _, errors = run(*asked)
    assert code == 3
    said = " ".join(errors.split())
    assert "Prevalence in 1 image, if" in said
    assert "found 1 image with an expected fall of" in said
    assert run(*asked, "--prevalence", "even")[0] == 2
    assert not out.exists()


def test_predict_counts_what_it_was_given(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    given = tmp_path / "new"
    given.mkdir()
    for number in range(3):
        shutil.copy(image_folder / "images" / f"{number:03d}.png", given)
    (given / "cut.png").write_bytes((given / "000.png").read_bytes()[:200])
    (given / "empty.jpg").touch()
    for name in ("notes.txt", ".DS_Store", "._000.png"):
        (given / name).touch()
    out = tmp_path / "p.csv"
    code, output, errors = run("predict", study_folder, given, given / "." / "001.png", "-o", out)
    assert (code, output.strip()) == (3, str(out))
    said = "3 images predicted, 2 failed, 1 given more than once, 1 other file skipped"
    assert said in " ".join(errors.split())
    with out.open(encoding="utf-8", newline="") as handle:
        rows = {Path(row["image"]).name: row["error"] != "" for row in csv.DictReader(handle)}
    assert rows == {"000.png": False, "001.png": False, "002.png": False, "cut.png": True, "empty.jpg": True}
    for name in ("cut.png", "empty.jpg"):
        (given / name).unlink()
    assert run("predict", study_folder, given, "-o", out, "--quiet")[0] == 0


def test_test_set_and_report(study_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    code, _, errors = run("test-set", out)
    assert code == 0
    assert "Test-set evaluation 1" in errors
    (out / "report.html").unlink()
    assert run("report", out)[0] == 0
    assert (out / "report.html").is_file()


def test_an_evaluation_counts_once_if_it_is_continued_and_still_if_its_record_is_removed(
    study_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = shutil.copytree(study_folder, tmp_path / "study")
    with monkeypatch.context() as patch:
        patch.setattr(
            "tametail.study.study.write_report", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert run("test-set", study)[0] == 130
    assert "Test-set evaluation 1; it continues" in run("test-set", study)[2]
    assert "Test-set evaluation 2; it is recorded" in run("test-set", study)[2]
    (study / "test_set_evaluations.jsonl").unlink()
    assert run("report", study)[0] == 0
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "was evaluated twice. The record of 2 of these evaluations is missing" in page.replace(
        "&nbsp;", " "
    )
    output, errors = run("test-set", study)[1:]
    assert "Test-set evaluation 3" in errors
    assert "evaluated 3 times" in output


def test_losses_are_listed() -> None:
    code, output, _ = run("losses")
    assert code == 0
    assert {line.split()[0] for line in output.splitlines()} >= {"alpa", "asl", "focal", "ce", "bce", "ldam"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compare", "absent"], 3, "absent"),
        (["compare", "DATA", "--methods", "alpha"], 2, "alpa"),
        (["compare", "DATA", "--folds", "1"], 2, "at least 2 folds"),
        (["compare", "DATA", "--folds", "9"], 3, "at most 4"),
        (["compare", "DATA", "--label-col", "diagnosis"], 3, "image, label, group, site"),
        (["compare", "DATA", "--recipe", "hed"], 2, "did you mean head"),
        (["compare", "DATA", "--backbone", "convnext_tiny", "--image-size", "28"], 2, "28×28"),
        (["test-set", "absent"], 3, "tametail compare"),
        (["report", "absent"], 3, "absent"),
        (["predict", "absent", "DATA"], 3, ""),
    ],
)
def test_mistakes_give_a_message_a_code_and_no_traceback(
    image_folder: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    words = [str(image_folder) if word == "DATA" else word for word in words]
    extra = ["-o", tmp_path / "study"] if words[0] == "compare" else []
    found, _, errors = run(*words, *extra)
    assert found == code, errors
    assert message in errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("Error: ")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(Exception, match="absent"):
        CliRunner().invoke(app, ["report", "absent", "--debug"], catch_exceptions=False)


def test_a_surprise_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch, study_folder: Path) -> None:
    report_module = import_module("tametail.report")
    monkeypatch.setattr(report_module, "write_report", lambda *_, **__: 1 / 0)
    code, _, errors = run("report", study_folder)
    assert code == 1
    assert "unexpected ZeroDivisionError" in errors
    assert "--debug" in errors


def test_ctrl_c_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, image_folder: Path, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tametail.study.study.compare", interrupted)
    code, _, errors = run("compare", image_folder, "-o", tmp_path / "s")
    assert code == 130
    assert "repeat the command" in errors


def test_failed_runs_end_in_an_error_that_names_them(
    monkeypatch: pytest.MonkeyPatch, image_folder: Path, tmp_path: Path
) -> None:
    from tametail.training.heads import head_training

    real = head_training.note_failures
    monkeypatch.setattr(
        head_training, "note_failures", lambda place, losses, *rest: real(place, losses * float("nan"), *rest)
    )
    command = (
        "compare",
        image_folder,
        "--methods",
        "ce",
        "-o",
        tmp_path / "s",
        *COMPARE,
        "--set",
        STEP_BY_STEP,
    )
    code, _, errors = run(*command)
    assert code == 1
    assert "ce seed 0 fold 2: the loss became" in errors
    assert "at step 1 of epoch 1" in errors
