"""Losses that are not finished: refused for means unless asked, told by name, and never among the others."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from fixtures.class_study import write_study
from fixtures.label_study import write_label_study
from tametail.predictions.single_label import read_predictions
from tametail.report import unfinished, write_report
from tametail.report.study.partial import WARNING, largest_block, partial_methods, runs_in_words

MakeStudy = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("without_figures")
RUNS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; tests copy it."""
    folder = tmp_path_factory.mktemp("partial") / "study"
    return write_study(folder, methods=("alpa", "asl", "ce", "focal"), seeds=(0, 1))


@pytest.fixture
def broken(whole: Path, tmp_path: Path) -> Path:
    """Of asl seed 1 lacks two folds, of ce seed 0 lacks one; alpa is finished, focal has nothing."""
    study = shutil.copytree(whole, tmp_path / "broken")
    for gone in ("asl/seed1-fold1", "asl/seed1-fold2", "ce/seed0-fold2", "focal"):
        shutil.rmtree(study / "runs" / gone)
    return study


def test_what_is_missing_is_named(broken: Path) -> None:
    assert unfinished(broken) == [
        "asl is not ranked, as runs are missing: seed 1 folds 1, 2",
        "ce is not ranked, as runs are missing: seed 0 fold 2",
        "focal is not ranked, as runs are missing: seed 0 folds 0, 1, 2; seed 1 folds 0, 1, 2",
    ]


def score(study: Path, method: str, seed: int, folds: tuple[int, ...]) -> float:
    tables = [
        read_predictions(study / f"runs/{method}/seed{seed}-fold{fold}/predictions.parquet") for fold in folds
    ]
    target = np.concatenate([table.target for table in tables])
    predicted = np.concatenate([table.predicted for table in tables])
    return float(balanced_accuracy_score(target, predicted))


def test_means_are_over_the_finished_runs_and_others_over_the_same(broken: Path) -> None:
    asl, ce, focal = partial_methods(broken)
    assert asl.score is not None
    assert ce.score is not None
    assert asl.score.value == pytest.approx(score(broken, "asl", 0, (0, 1, 2)))
    assert asl.unused == ((1, 0),)
    assert ce.score.value == pytest.approx(score(broken, "ce", 1, (0, 1, 2)))
    assert ce.used == ((1, 0), (1, 1), (1, 2))
    assert ce.unused == ((0, 0), (0, 1))
    ((name, other),) = ce.others
    assert name == "alpa"
    assert other.value == pytest.approx(score(broken, "alpa", 1, (0, 1, 2)))
    assert other.n == ce.score.n
    assert (focal.score, focal.used, focal.others) == (None, (), ())


def test_without_being_asked_no_partial_mean_is_anywhere(broken: Path) -> None:
    write_report(broken)
    assert not (broken / "partial.md").exists()
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO((broken / "results.csv").read_text()))}
    assert rows["asl"]["balanced_accuracy"] == ""


def test_asked_for_they_stand_in_files_of_their_own_and_are_marked(broken: Path) -> None:
    write_report(broken)
    before = {name: (broken / name).read_bytes() for name in ("results.csv", "report.html", "metrics.json")}
    write_report(broken, partial=True)
    assert before == {name: (broken / name).read_bytes() for name in before}
    text = (broken / "partial.md").read_text(encoding="utf-8")
    assert WARNING in text
    assert "## asl: partial, 4 of 6 runs" in text
    assert "Missing: seed 1 folds 1, 2." in text
    assert "| alpa, same runs |" in text
    assert "No run is finished, so there is no score." in text
    rows = list(csv.DictReader(io.StringIO((broken / "partial.csv").read_text())))
    assert [(row["method"], row["status"]) for row in rows] == [
        ("asl", "partial"),
        ("alpa", "same runs as asl"),
        ("ce", "partial"),
        ("alpa", "same runs as ce"),
        ("focal", "partial"),
    ]
    assert rows[-1]["balanced_accuracy"] == ""


def test_they_are_made_again_with_the_report_and_go_when_all_is_finished(broken: Path, whole: Path) -> None:
    write_report(broken, partial=True)
    shutil.copytree(whole / "runs" / "asl", broken / "runs" / "asl", dirs_exist_ok=True)
    write_report(broken)
    assert "## asl" not in (broken / "partial.md").read_text(encoding="utf-8")
    shutil.copytree(whole / "runs", broken / "runs", dirs_exist_ok=True)
    write_report(broken)
    assert not (broken / "partial.md").exists()
    assert not (broken / "partial.csv").exists()
    assert unfinished(broken) == []


def test_no_cell_is_a_formula(make_study: MakeStudy) -> None:
    study = make_study(methods=("=2+2", "ce"))
    shutil.rmtree(study / "runs" / "=2+2" / "seed0-fold1")
    write_report(study, partial=True)
    cells = [cell for row in csv.reader(io.StringIO((study / "partial.csv").read_text())) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_labels_too(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study")
    for fold in (1, 2):
        shutil.rmtree(study / f"runs/asl/seed0-fold{fold}")
    (asl,) = partial_methods(study)
    assert asl.score is not None
    assert 0 < asl.score.value < 1
    assert [name for name, _ in asl.others] == ["focal", "bce"]


@settings(deadline=None)
@given(RUNS)
def test_the_block_is_all_whole_repeats_or_the_best_of_the_others(finished: set[tuple[int, int]]) -> None:
    wanted = [(repeat, fold) for repeat in range(4) for fold in range(5)]
    block = largest_block(sorted(finished), wanted)
    assert set(block) <= finished
    counts = [sum(run[0] == repeat for run in finished) for repeat in range(4)]
    if 5 in counts:
        assert len(block) == 5 * counts.count(5)
    else:
        assert len(block) == max(counts)
        assert len({repeat for repeat, _ in block}) <= 1


def test_runs_in_words() -> None:
    assert runs_in_words([(0, 1), (0, 2), (3, 0)]) == "seed 0 folds 1, 2; seed 3 fold 0"
    assert runs_in_words([]) == "none"
