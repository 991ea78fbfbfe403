"""tametail rank, and what tametail report writes besides the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli.test_app import run
from fixtures.class_study import write_study
from fixtures.several_studies import write_sets

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_sets(tmp_path_factory.mktemp("sets"), ("skin", "eyes"), methods=("alpa", "ce", "ldam"))


def test_the_ranking_is_printed_and_written(studies: list[Path], tmp_path: Path) -> None:
    code, output, errors = run("rank", *studies, "-o", tmp_path / "ranks")
    assert code == 0, errors
    lines = output.splitlines()
    assert lines[0].split() == ["1.00", "alpa"]
    assert "Over 2 data sets, alpa has the best mean rank" in output
    assert lines[-1] == f"Report: {tmp_path / 'ranks' / 'ranks.html'}"
    assert "With 2 data sets the tests have little power" in errors
    assert (tmp_path / "ranks" / "ranks.csv").is_file()
    assert run("rank", *studies, "-o", tmp_path / "ranks", "--quiet") == (0, output, errors)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["a"], 2, "at least two studies"),
        (["a", "b"], 3, "expected a study"),
        (["--bars", "t-test", "a", "b"], 2, "expected --bars as one of nemenyi, wilcoxon"),
    ],
)
def test_what_cannot_be_ranked_is_told(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    found = run("rank", *words, "-o", tmp_path / "ranks")
    assert found[0] == code
    assert said in found[2]
    assert not (tmp_path / "ranks").exists()


def test_report_makes_figures_and_partial_means_on_request(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", methods=("alpa", "ce"))
    shutil.rmtree(study / "runs" / "ce" / "seed0-fold1")
    code, output, errors = run("report", study)
    assert code == 0
    assert output == f"{study / 'report.html'}\n"
    assert (
        "ce is not ranked, as runs are missing: seed 0 fold 1; show its mean so far with --partial"
        in " ".join(errors.split())
    )
    assert not (study / "figures").exists()
    code, _, errors = run("report", study, "--figures", "svg", "--partial")
    assert code == 0
    assert "see partial.md" in " ".join(errors.split())
    assert (study / "figures" / "tail.svg").is_file()
    assert (study / "partial.csv").is_file()
    code, _, errors = run("report", study, "--figures", "eps")
    assert (code, "pdf, png, svg" in errors) == (2, True)
