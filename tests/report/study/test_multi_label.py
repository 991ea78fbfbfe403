from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fixtures.label_study import write_label_study
from tametail.core.errors import DataError, UsageError
from tametail.evaluation import evaluate_labels
from tametail.evaluation.label_calibration import apply_label_map, calibrate_labels
from tametail.evaluation.label_thresholds import deployable_thresholds
from tametail.evaluation.resampled_t import resampled_t
from tametail.predictions.by_group import by_group, replicates_by_group
from tametail.predictions.multi_label import concatenate_labels, ensemble_labels, read_label_predictions
from tametail.report import best_method, read_results, results_table, write_report
from tametail.report.options import ReportOptions
from tametail.report.study.class_curves import label_net_benefit_curve
from tametail.report.study.comparisons import run_scores
from tametail.report.study.page import results_html
from tametail.report.study.partial import partial_methods
from tametail.report.study.runs import find_runs


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label study whose test set was evaluated and has no scar; tests only read it."""
    folder = tmp_path_factory.mktemp("labels") / "study"
    write_label_study(folder, test_set_evaluations=1, seeds=(0, 1), absent_from_test="scar")
    write_report(folder)
    return folder


def rows_of(study: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((study / "results.csv").read_text(encoding="utf-8"))))


def test_losses_rank_by_mean_average_precision(study: Path) -> None:
    results = read_results(study)
    assert [result.method for result in results.ranking] == ["bce", "asl", "focal"]
    assert best_method(study) == "bce"
    assert results.headline == "mean average precision"
    for result in results.ranking:
        tables = [
            concatenate_labels(
                [
                    read_label_predictions(path)
                    for path in study.glob(f"runs/{result.method}/seed{seed}-*/predictions.parquet")
                ]
            )
            for seed in (0, 1)
        ]
        expected = [average_precision_score(table.labels, table.logits) for table in tables]
        assert result.score == pytest.approx(np.mean(expected))
        assert result.out_of_fold is not None
        assert result.out_of_fold["mean_average_precision"].value == pytest.approx(result.score)


def test_the_test_set_is_evaluated_at_thresholds_of_out_of_fold_predictions(study: Path) -> None:
    best = read_results(study).ranking[0]
    seeds = [
        concatenate_labels(
            [read_label_predictions(p) for p in study.glob(f"runs/bce/seed{seed}-*/predictions.parquet")]
        )
        for seed in (0, 1)
    ]
    calibration = calibrate_labels(seeds).map
    thresholds = calibration(deployable_thresholds(seeds))
    assert best.thresholds == tuple(thresholds)
    on_test = [
        apply_label_map(calibration, read_label_predictions(path))
        for path in sorted(study.glob("runs/bce/*/test_predictions.parquet"))
    ]
    counts = list(read_results(study).counts.train.values())
    expected = evaluate_labels([ensemble_labels(on_test)], thresholds, train_counts=counts)
    assert best.test_ensemble is not None
    assert repr(best.test_ensemble.estimates) == repr(expected.estimates)  # nan is not nan
    assert best.test is not None
    assert best.test.replicates == 6


def test_images_are_counted_once_and_labels_each(study: Path) -> None:
    counts = read_results(study).counts
    assert (counts.train_images, counts.test_images) == (240, 60)
    assert counts.test["scar"] == 0
    table = concatenate_labels(
        [read_label_predictions(p) for p in study.glob("runs/bce/seed0-*/predictions.parquet")]
    )
    assert list(counts.train.values()) == table.labels.sum(axis=0).tolist()


def test_results_csv_holds_every_number(study: Path) -> None:
    rows = rows_of(study)
    best = read_results(study).ranking[0]
    row = rows[0]
    evaluation = best.out_of_fold
    assert evaluation is not None
    for column, value in (
        ("mean_average_precision", evaluation["mean_average_precision"].value),
        ("macro_auroc_high", evaluation["macro_auroc"].high),
        ("auroc_edema_low", evaluation["auroc", "edema"].low),
        ("threshold_mass", best.thresholds[2]),
        ("macro_f1", evaluation["macro_f1"].value),
        ("hamming_loss_at_half", evaluation["hamming_loss_at_half"].value),
        ("specificity_a<b>", evaluation["specificity", "a<b>"].value),
        ("recall_at_half_scar", evaluation["recall_at_half", "scar"].value),
    ):
        assert float(row[column]) == pytest.approx(value, abs=1e-6), column
    assert row["test_n_scar"] == "0"
    assert row["test_average_precision_scar"] == row["test_f1_scar"] == ""
    assert float(row["test_specificity_scar"]) > 0.5
    assert (row["n"], row["test_n"]) == ("240", "60")


def test_the_terminal_shows_what_ranks(study: Path) -> None:
    lines = results_table(study).splitlines()
    assert "Mean AP, %" in lines[1]
    assert "Macro AUROC" in lines[1]
    assert lines[2].split()[:2] == ["1", "bce"]


def test_markdown_has_labels_and_thresholds(study: Path) -> None:
    text = (study / "results.md").read_text(encoding="utf-8")
    assert "bce has the highest mean average precision" in text
    assert "| a&lt;b&gt; |" in text
    assert "## bce at its thresholds in cross-validation" in text
    assert "balanced accuracy" not in text.lower()
    tested = text[text.index("## Test set, mean") :]
    scar = next(line for line in tested.splitlines() if line.startswith("| scar"))
    assert scar.split(" | ")[2:4] == ["0", "60"]
    assert scar.count("–") == 6  # AP and AUROC of three losses, and no number
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count(" |") for line in block.splitlines()}) == 1, block


def test_the_page_shows_labels_and_no_confusion_matrix(study: Path) -> None:
    html = (study / "report.html").read_text(encoding="utf-8")
    for words in ("on each label?", "AP by method", "Macro AUROC", "Threshold", "Negatives"):
        assert words in html
    shown = re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL)
    for words in ("onfusion", "alanced accuracy", "imbalance ratio infinite", "<b>"):
        assert words not in shown
    assert html.count("a&lt;b&gt;") > 10
    assert "--multi-label" in html
    assert "patient-" not in html


def test_a_study_before_the_test_set_evaluation_and_one_without_results(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "held_out", methods=("bce", "asl"))
    write_report(study)
    assert "test_n" not in rows_of(study)[0]
    for path in study.glob("runs/asl/seed0-fold1/*"):
        path.unlink()
    write_report(study)
    rows = rows_of(study)
    assert [(row["method"], row["status"]) for row in rows] == [("bce", "complete"), ("asl", "2 of 3 runs")]
    assert rows[1]["mean_average_precision"] == rows[1]["threshold_mass"] == ""
    for path in study.glob("runs/bce/seed0-fold1/*"):
        path.unlink()
    write_report(study)
    assert "No answer yet" in (study / "report.html").read_text(encoding="utf-8")


def test_results_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study", methods=("bce",))
    found = []
    for _ in range(2):
        write_report(study)
        found.append([(study / name).read_bytes() for name in ("results.csv", "results.md", "report.html")])
    assert found[0] == found[1]


def test_predictions_of_the_other_kind_are_a_data_error(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study", methods=("bce",))
    described = json.loads((study / "study.json").read_text(encoding="utf-8"))
    (study / "study.json").write_text(json.dumps(described | {"multi_label": False}), encoding="utf-8")
    with pytest.raises(DataError, match="expected kind single_label, found multi_label"):
        write_report(study)


def test_methods_are_compared_in_pairs_and_label_by_label(study: Path) -> None:
    results = read_results(study)
    assert results.pairs is not None
    best, *others = results.ranking
    assert results.pairs.names == tuple(result.method for result in results.ranking)
    assert list(results.by_class) == [result.method for result in others]
    assert best.out_of_fold is not None
    for place, other in enumerate(others, start=1):
        assert other.out_of_fold is not None
        pair = results.pairs.pair(0, place)
        difference = best.out_of_fold.score.value - other.out_of_fold.score.value
        assert pair.difference.value == pytest.approx(difference, abs=1e-9)
        tests = {test.name: test for test in results.by_class[other.method]}
        assert tests["scar"].verdict == "absent" or tests["scar"].n > 0
        for name, test in tests.items():
            if test.verdict != "absent":
                metric = ("average_precision", name)
                expected = best.out_of_fold[metric].value - other.out_of_fold[metric].value
                assert test.difference.value == pytest.approx(expected, abs=1e-9)


def test_the_page_shows_tests_and_calibration_of_labels(study: Path) -> None:
    page = results_html(read_results(study))
    assert "a paired t test of mean average precision" in page
    assert "Label by label" in page
    assert "Calibration, means over the labels" in page or "Each label has a map of its own" in page


def test_operating_points_of_labels_are_those_of_the_binary_question(study: Path) -> None:
    name = read_results(study).class_names[0]
    results = read_results(study, ReportOptions(operating=((name, 0.8),)))
    for result in results.ranking:
        (point,) = result.operating
        assert point.class_name == name
        assert point.sensitivity.n + point.specificity.n == sum(
            size.n + size.others for size in result.out_of_fold.classes if size.name == name
        )
        assert 0.5 < point.sensitivity.value <= 1
    decision = results.ranking[0].decision
    assert decision is not None
    assert decision.class_name == name
    assert "Operating points" in results_html(results)
    with pytest.raises(UsageError, match="expected a class of the study with --operating"):
        read_results(study, ReportOptions(operating=(("none", 0.8),)))


def test_the_test_over_runs_of_groups_knows_the_sizes_in_images(study: Path) -> None:
    """The share of held-out images corrects its variance: that of groups among images would be too small."""
    results = read_results(study, ReportOptions(predict_by="group"))
    best, other, _ = results.ranking
    runs = {
        of_method.method: replace(of_method, predict_by="group")
        for of_method in find_runs(study, results.settings)
    }
    scores = [run_scores(runs[result.method].evaluated_labels) for result in (best, other)]
    n = results.counts.train_images
    assert results.across_runs[other.method].found == resampled_t(*scores, n * 2 / 3, n / 3)


def test_probabilities_in_cross_validation_are_mapped_by_other_folds(study: Path) -> None:
    """As those of the test set are mapped; a map that was fitted on the same images would make the net benefit optimistic."""
    for by in ("image", "group"):
        results = read_results(study, ReportOptions(predict_by=by))
        for result in results.ranking:
            runs = next(one for one in find_runs(study, results.settings) if one.method == result.method)
            tables = replicates_by_group(calibrate_labels(runs.label_replicates).tables, by)
            expected = evaluate_labels(tables, train_counts=list(results.counts.train.values()))
            assert result.out_of_fold is not None
            assert repr(result.out_of_fold.estimates) == repr(expected.estimates)
            if result.decision is not None:
                assert result.decision == label_net_benefit_curve(tables, [])


def test_the_ensemble_of_groups_is_that_of_predict(study: Path) -> None:
    """The mean of the models comes before the highest probability of the images of a group."""
    result = read_results(study, ReportOptions(predict_by="group-max")).ranking[0]
    assert result.label_calibration is not None
    on_test = [
        apply_label_map(result.label_calibration.map, read_label_predictions(path))
        for path in sorted(study.glob(f"runs/{result.method}/*/test_predictions.parquet"))
    ]
    expected = evaluate_labels([by_group(ensemble_labels(on_test), "group-max")], result.thresholds)
    assert result.test_ensemble is not None
    for name in ("mean_average_precision", "macro_f1", "hamming_loss"):
        assert result.test_ensemble[name] == expected[name]


def test_options_that_do_not_fit_are_refused_with_a_way_out(study: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--coverage is of prediction sets.* may have several labels.*omit it"
    ):
        write_report(study, coverage=0.8)
    with pytest.raises(UsageError, match='--by "" or --predict-by image takes one of them back'):
        read_results(study, ReportOptions(by=("sex",), predict_by="group"))


def test_every_file_says_that_groups_are_counted(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study", methods=("bce", "asl"), test_set_evaluations=1)
    write_report(study, predict_by="group")
    said = "groups of images (mean probability over the images of a group)"
    for name in ("results.md", "results.tex", "model_card.md", "report.html"):
        text = (study / name).read_text(encoding="utf-8")
        assert said in text, name
        assert "n = 80 images" not in text, name
    assert said in results_table(study)
    html = (study / "report.html").read_text(encoding="utf-8")
    assert "--method bce --predict-by group --group-from" in html
    write_report(study, predict_by="image")
    assert said not in results_table(study)


def test_partial_scores_are_of_what_the_report_evaluates(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study", methods=("bce", "asl"))
    for path in study.glob("runs/asl/seed0-fold1/*"):
        path.unlink()
    of_images, of_groups = partial_methods(study)[0], partial_methods(study, "group")[0]
    assert of_images.score is not None
    assert of_groups.score is not None
    assert of_groups.score.n * 3 == of_images.score.n
    write_report(study, predict_by="group", partial=True)
    assert f"{of_groups.score.value:.6f}" in (study / "partial.csv").read_text(encoding="utf-8")
