from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from fixtures.label_study import write_label_study
from tametail.report import read_results
from tametail.report.formatting import percent_with_interval
from tametail.report.writers.model_card import model_card

MakeStudy = Callable[..., Path]


def test_it_is_about_the_best_loss_with_intervals_per_class(held_out_study: Path) -> None:
    card = (held_out_study / "model_card.md").read_text(encoding="utf-8")
    best = read_results(held_out_study).ranking[0]
    assert best.out_of_fold is not None
    assert f"- Method: {best.method}\n" in card
    table = card.split(f"### {best.method}, in cross-validation")[1]
    for one in best.out_of_fold.classes:
        row = next(line for line in table.splitlines() if line.startswith(f"| {one.name} | "))
        assert f" | {one.n} | " in row
        for metric in ("recall", "precision", "npv", "specificity"):
            assert f" {percent_with_interval(best.out_of_fold[metric, one.name])} |" in row
    assert "| basophil | 11 | 3 |" in card
    assert "not a medical device" in card
    assert "basophil (11)" in card, "few images are a limit"
    assert "is held out" in card
    assert "_Not known from the study; fill in._" in card


def test_the_evaluated_test_set_is_shown_and_counted(evaluated_study: Path) -> None:
    card = (evaluated_study / "model_card.md").read_text(encoding="utf-8")
    assert "test set, ensemble of the fold models" in card
    assert "The test set was evaluated twice." in card


def test_no_time_path_or_group_is_in_it(evaluated_study: Path) -> None:
    card = (evaluated_study / "model_card.md").read_text(encoding="utf-8")
    assert str(evaluated_study) not in card
    assert "patient-" not in card
    assert "Training time" not in card


def test_without_a_finished_loss_there_is_no_model(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",))
    shutil.rmtree(study / "runs" / "ce" / "seed0-fold0")
    card = model_card(read_results(study))
    assert "There is no model yet." in card
    assert "| Class |" not in card


def test_what_the_data_lack_is_a_limit(make_study: MakeStudy) -> None:
    findings = [
        {"code": "x", "severity": "warning", "message": "3 images <b>twice</b>", "advice": "", "affected": 3},
        {"code": "y", "severity": "note", "message": "one size", "advice": "", "affected": 1},
    ]
    study = make_study(methods=("ce",), images_per_group=1, findings=findings, synthetic=True)
    card = model_card(read_results(study))
    assert "It is unknown which images are of the same patient" in card
    assert "Audit finding: 3 images &lt;b&gt;twice&lt;/b&gt;." in card
    assert "one size" not in card
    assert "**Synthetic demo images" in card


def test_labels_have_thresholds(tmp_path: Path) -> None:
    card = model_card(read_results(write_label_study(tmp_path / "study")))
    assert "| Label | Training images | Positives | Negatives | Groups | Threshold | Recall, % |" in card
    assert "| a&lt;b&gt; |" in card
