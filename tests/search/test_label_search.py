"""Searches on images that may have several labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures.patches import PATCHES, draw_patches
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.core.errors import DataError
from tametail.data import read_images
from tametail.data.table import ImageTable
from tametail.evaluation import evaluate_labels
from tametail.evaluation.label_thresholds import macro_average_precision
from tametail.evaluation.ranking_metrics import auroc
from tametail.predictions.multi_label import concatenate_labels, read_label_predictions
from tametail.search.folds import FoldData
from tametail.search.search import search
from tametail.search.trainings import SelectionMetric, predicted_logits, trial_outputs, trial_score
from tametail.storage.search_file import read_search
from tametail.study.study import compare
from tametail.training.run import TrainingKey

SETTINGS = {name: value for name, value in TINY.items() if name != "repeats"} | {"folds": 3}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """Patches, of which a third has wrong labels and a tenth of the labels is unknown."""
    folder = draw_patches(tmp_path_factory.mktemp("patches") / "patches")
    rows = [line.split(",") for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]]
    unknown = np.random.default_rng(1).random((len(rows), len(PATCHES))) < 0.1
    lines = [f"image,group,{','.join(PATCHES)}"]
    for number, (image, label, group) in enumerate(rows):
        has = [(name in label) != (number % 3 == 0) for name in PATCHES]
        cells = ["" if hidden else str(int(one)) for one, hidden in zip(has, unknown[number], strict=True)]
        lines.append(",".join([image, group, *cells]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_images(folder, multi_label=True, label_cols=",".join(PATCHES), blank="ignore", missing="skip")


@pytest.fixture(scope="module")
def folder(table: ImageTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search; tests only read it."""
    out = tmp_path_factory.mktemp("search") / "s"
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        search(table, "asl", out=out, trials=4, **SETTINGS)
    return out


def test_the_defaults_are_those_of_a_study_on_the_same_folds(
    folder: Path, table: ImageTable, tmp_path: Path
) -> None:
    content = read_search(folder)
    nested = content["result"]["nested"]
    assert content["search"]["metric"] == "mean_average_precision"
    assert nested["default"] == nested["mean_average_precision"]["default"]
    with figures_not_rendered():
        compare(table, "asl", out=tmp_path / "study", repeats=1, **SETTINGS)
    paths = sorted((tmp_path / "study").glob("runs/asl/*/predictions.parquet"))
    held_out = concatenate_labels([read_label_predictions(path) for path in paths])
    expected = evaluate_labels([held_out])["mean_average_precision"]
    assert nested["default"]["value"] == pytest.approx(expected.value, abs=1e-3)
    assert nested["default"]["n"] == expected.n
    on_folds = [macro_average_precision(held_out.take(held_out.fold == fold)) for fold in range(3)]
    given = [fold["default_score"] for fold in content["result"]["folds"]]
    np.testing.assert_allclose(given, on_folds, atol=1e-3)


def test_the_page_and_the_verdict_are_of_mean_average_precision(folder: Path) -> None:
    content = read_search(folder)
    result = content["result"]
    test = result["nested"]["mean_average_precision"]
    difference = test["tuned"]["value"] - test["default"]["value"]
    assert test["difference"]["value"] == pytest.approx(difference, abs=1e-9)
    assert result["best"]["n"] == result["nested"]["n"]
    tuned = np.mean([fold["score"] for fold in result["folds"]])
    assert result["optimism"] == pytest.approx(result["best"]["score"] - tuned)
    assert 1 <= result["indistinguishable"] <= 4
    page = (folder / "search.html").read_text(encoding="utf-8")
    assert "points of mean average precision" in page
    assert "balanced accuracy" not in page


def test_the_tuned_method_is_compared(folder: Path, table: ImageTable, tmp_path: Path) -> None:
    with figures_not_rendered():
        compare(table, "bce", out=tmp_path / "study", repeats=1, tuned=folder, **SETTINGS)
    described = json.loads((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    (note,) = described["tuned"].values()
    assert note["nested_mean_average_precision"] == read_search(folder)["result"]["nested"]["tuned"]
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "its search estimates a mean average precision of" in page


def test_a_search_without_its_test_is_damaged(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    nested = content["result"]["nested"]
    nested["balanced_accuracy"] = nested.pop("mean_average_precision")
    (tmp_path / "search.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"result\.nested has no mean_average_precision"):
        read_search(tmp_path)


def test_scores_are_means_over_the_inner_folds_and_leave_unknown_labels_out() -> None:
    import torch

    from tametail.training.heads.head_experiments import TrialResult
    from tametail.training.recipe import load_recipe
    from tametail.training.strategies import parse_method

    rng = np.random.default_rng(0)
    target = (rng.random((60, 2)) < 0.4).astype(np.float32)
    target[rng.random((60, 2)) < 0.2] = np.nan
    fold = np.arange(60) % 3
    folds = FoldData(np.zeros((60, 1), dtype=np.float32), target, fold, 2)
    rule = parse_method("bce").decision_rule([1, 1], 60, load_recipe("head"))
    outputs, expected, all_logits = {}, [], []
    trainings = [TrainingKey(0, (one,)) for one in range(3)]
    for training, one in zip(trainings, range(3), strict=True):
        logits = rng.normal(size=(20, 2)).astype(np.float32)
        outputs[training.name] = trial_outputs(
            TrialResult(torch.from_numpy(logits), rule), training, [one], folds, 0.0
        )
        all_logits.append(logits)
        np.testing.assert_allclose(predicted_logits(outputs[training.name], 2), logits, rtol=1e-3)
        of = target[fold == one]
        known = ~np.isnan(of)
        expected.append(np.mean([auroc(of[known[:, c], c] == 1, logits[known[:, c], c]) for c in range(2)]))
    assert trial_score(outputs, trainings, SelectionMetric("macro_auroc")) == pytest.approx(np.mean(expected))
    # A training without two folds predicts one after the other.
    both = TrialResult(torch.from_numpy(np.concatenate([all_logits[2], all_logits[0]])), rule)
    pair = TrainingKey(0, (0, 2))
    stored = {pair.name: trial_outputs(both, pair, [2, 0], folds, 0.0)}
    assert trial_score(stored, [pair], SelectionMetric("macro_auroc"), outer=2) == pytest.approx(expected[0])
    assert "logits" not in stored[pair.name]


def test_auroc_counts_ties_half() -> None:
    positive, score = np.array([True, True, False, False]), np.array([1.0, 0.0, 0.0, -1.0])
    assert auroc(positive, score) == pytest.approx((2 + 1.5) / 4)
    assert np.isnan(auroc(positive[:2], score[:2]))
