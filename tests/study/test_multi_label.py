"""Images of several labels from end to end: read, split, train, open, predict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import tametail
from fixtures.patches import PATCHES, draw_patches
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY, words
from tametail.cli.app import app
from tametail.core.errors import UsageError
from tametail.data import read_images
from tametail.losses import parse_loss
from tametail.predictions.multi_label import ensemble_labels, read_label_predictions
from tametail.report import read_results, write_report
from tametail.report.options import ReportOptions
from tametail.study.study import compare, evaluate_test_set

LOSSES = "asl,alpa,bce,focal"
SETTINGS = TINY | {"epochs": 6, "lr": 2e-2}


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_patches(tmp_path_factory.mktemp("patches") / "patches")


@pytest.fixture(scope="module")
def study(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, made by the command and then opened; tests only read it."""
    out = tmp_path_factory.mktemp("study") / "patches"
    options = words(SETTINGS)
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        command = [
            "compare",
            patches,
            "--multi-label",
            "--methods",
            LOSSES,
            "-o",
            out,
            "--folds",
            2,
            *options,
        ]
        result = CliRunner().invoke(app, [str(word) for word in [*command, "--quiet"]])
        assert (result.exit_code, result.stderr) == (0, "")
        assert "Mean AP, %" in result.stdout
        evaluate_test_set(out)
    return out


def test_the_study_says_what_it_is(study: Path, patches: Path) -> None:
    described = json.loads((study / "study.json").read_text(encoding="utf-8"))
    assert described["multi_label"] is True
    assert described["class_names"] == ["blue", "green", "red"]
    counts = json.loads((study / "runs/asl/seed0-fold0/run.json").read_text(encoding="utf-8"))["class_counts"]
    table = read_images(patches, multi_label=True)
    assert all(0 < counts[name] < table.counts()[name] for name in counts)


def test_every_loss_finds_the_patches(study: Path) -> None:
    results = read_results(study)
    assert {result.method for result in results.ranking} == set(LOSSES.split(","))
    for result in results.ranking:
        for evaluation in (result.out_of_fold, result.test, result.test_ensemble):
            assert evaluation is not None
            assert evaluation.multi_label
            assert evaluation["macro_auroc"].value > 0.8, result.method
            assert evaluation["mean_average_precision"].value > 0.6, result.method
        assert result.out_of_fold is not None
        assert result.out_of_fold["macro_f1"].value > 0.5, result.method
    assert "Macro AUROC" in (study / "report.html").read_text(encoding="utf-8")


def test_predictions_are_of_their_rows(study: Path, patches: Path) -> None:
    table = read_images(patches, multi_label=True)
    rows = {image: row for row, image in enumerate(table.images)}
    for path in study.glob("runs/alpa/*/predictions.parquet"):
        found = read_label_predictions(path)
        at = [rows[image] for image in found.image]
        np.testing.assert_array_equal(found.labels, table.labels[at])
        np.testing.assert_array_equal(found.group, table.groups[at])
        link = parse_loss("alpa").create([9, 9, 9]).link
        np.testing.assert_allclose(found.posterior, link(torch.from_numpy(found.logits)).numpy(), atol=1e-6)


def test_the_model_answers_for_each_label_by_itself(study: Path, patches: Path) -> None:
    classifier = tametail.load(study, "asl")
    parts = [read_label_predictions(p) for p in sorted(study.glob("runs/asl/*/test_predictions.parquet"))]
    expected = ensemble_labels(parts)
    images = [patches / image for image in expected.image]
    found = classifier.predict_table(images)
    p = found[["p_blue", "p_green", "p_red"]].to_numpy()
    np.testing.assert_allclose(p, expected.posterior, atol=1e-5)
    np.testing.assert_array_equal(classifier.predict_proba(images), p)
    assert not np.allclose(p.sum(axis=1), 1, atol=0.05)
    assert classifier.facts.thresholds is not None
    of_report = next(result for result in read_results(study).methods if result.method == "asl")
    assert tuple(classifier.facts.thresholds) == of_report.thresholds
    given = p >= classifier.facts.thresholds
    has = found[["has_blue", "has_green", "has_red"]].to_numpy(dtype=bool)
    np.testing.assert_array_equal(has, given)
    joined = ["|".join(np.array(classifier.facts.class_names)[row]) for row in given]
    assert found["predicted"].tolist() == joined


def test_predict_writes_probabilities_thresholds_and_labels(
    study: Path, patches: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    words = ["predict", study, patches, tmp_path / "broken.png", "-o", tmp_path / "p.csv"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 3
    assert "Thresholds of the labels" in result.stderr
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 121
    for row in rows:
        if row["error"]:
            assert row["p_red"] == row["has_red"] == row["predicted"] == ""
            continue
        names = set(filter(None, row["predicted"].split("|")))
        assert {name for name in PATCHES if row[f"has_{name}"] == "1"} == names
        assert all(0 <= float(row[f"p_{name}"]) <= 1 for name in PATCHES)
    assert sum(bool(row["error"]) for row in rows) == 1
    assert len({row["threshold_red"] for row in rows if not row["error"]}) == 1


def test_images_of_a_group_are_predicted_and_evaluated_together(
    study: Path, patches: Path, tmp_path: Path
) -> None:
    alone = tametail.load(study, "asl")
    images = sorted(patches.glob("*.png"))[:6]
    for number, image in enumerate(images):
        folder = tmp_path / "new" / f"patient{number // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.name).write_bytes(image.read_bytes())
    (tmp_path / "new" / "patient1" / "broken.png").write_bytes(b"\x89PNG")
    by_one = alone.predict_table(images)
    p = by_one[["p_blue", "p_green", "p_red"]].to_numpy(dtype=float)
    for how, expected in (
        ("group", p.reshape(2, 3, 3).mean(axis=1)),
        ("group-max", p.reshape(2, 3, 3).max(axis=1)),
    ):
        out = tmp_path / f"{how}.csv"
        words = ["predict", study, tmp_path / "new", "--method", "asl", "--predict-by", how, "-o", out]
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.stderr
        said = " ".join(result.stderr.split())
        assert "Groups of images: 2, from folder level 1 above the image" in said
        assert "1 of 7 images could not be read, and left out of the groups" in said
        table = pd.read_csv(out, keep_default_na=False)
        assert table["image"].tolist() == ["patient0", "patient1"]
        assert table["images"].tolist() == [3, 3]
        np.testing.assert_allclose(
            table[["p_blue", "p_green", "p_red"]].to_numpy(dtype=float), expected, atol=2e-6
        )
        unlike = by_one["unlikeness"].to_numpy(dtype=float).reshape(2, 3)
        np.testing.assert_allclose(table["unlikeness"].astype(float), unlike.max(axis=1), rtol=1e-5)
        assert table["unlike_images"].tolist() == (unlike > 1).sum(axis=1).tolist()
        assert table["unlike_training"].tolist() == (unlike > 1).any(axis=1).tolist()
        results = read_results(study, ReportOptions(predict_by=how))
        of_method = next(one for one in results.methods if one.method == "asl")
        assert table["threshold_red"].iloc[0] == pytest.approx(of_method.thresholds[2], abs=1e-6)
        assert of_method.out_of_fold is not None
        by_image = next(one for one in read_results(study).methods if one.method == "asl").out_of_fold
        assert by_image is not None
        assert of_method.out_of_fold.n == by_image.groups < by_image.n


def test_groups_are_for_several_labels_and_need_both_options(study: Path, patches: Path) -> None:
    words = ["predict", study, patches, "--group-from", "folder"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2
    assert "give both, or neither" in " ".join(result.stderr.split())
    with pytest.raises(UsageError, match="expected the group of each image"):
        tametail.load(study, predict_by="group").predict_table([patches / "000.png"])
    for given in ({"coverage": 0.8}, {"sets": "prevalence"}):
        with pytest.raises(UsageError, match=r"may have several labels.* leave out --coverage and --sets"):
            tametail.load(study).predict_table([patches / "000.png"], **given)


@pytest.mark.parametrize("prevalence", ["even", "blue=0.2,green=0.3,red=0.5"])
def test_class_shares_are_refused(study: Path, patches: Path, tmp_path: Path, prevalence: str) -> None:
    words = ["predict", study, patches, "--prevalence", prevalence, "-o", tmp_path / "p.csv"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2
    assert "may have several labels" in " ".join(result.stderr.split())
    assert not (tmp_path / "p.csv").exists()


def test_what_takes_one_class_for_granted_is_refused_before_any_work(patches: Path, tmp_path: Path) -> None:
    table = read_images(patches, multi_label=True)
    for methods, message in (("bce,ce", "ce cannot be trained"), ("bce+crt", "got crt")):
        with pytest.raises(UsageError, match=message):
            compare(table, methods, out=tmp_path / "s", folds=3, **SETTINGS)
    with pytest.raises(UsageError, match="one class each with --class-order"):
        compare(table, "bce", out=tmp_path / "s", folds=3, class_order=list(PATCHES), **SETTINGS)
    assert not (tmp_path / "s" / "study.json").exists()


def hide(patches: Path, folder: Path, fill: dict[bool, str]) -> Path:
    """The labels as columns of 0 and 1, a fifth of them written as ``fill`` says instead of what is true."""
    table = read_images(patches, multi_label=True)
    hidden = np.random.default_rng(4).random(table.labels.shape) < 0.2
    true = table.labels.astype(int).astype(str)
    cells = np.where(hidden, np.where(table.labels, fill[True], fill[False]), true)
    rows = zip(table.images, table.groups, cells, strict=True)
    lines = [",".join([image, group, *row]) for image, group, row in rows]
    folder.mkdir()
    (folder / "hidden.csv").write_text("\n".join(["image,group,blue,green,red", *lines]), encoding="utf-8")
    return folder / "hidden.csv"


@pytest.mark.parametrize("recipe", ["head", "quick"])
def test_unknown_labels_are_in_no_loss_and_in_no_metric(patches: Path, tmp_path: Path, recipe: str) -> None:
    path = hide(patches, tmp_path / "t", {True: "-1", False: ""})
    out = tmp_path / "s"
    columns = {
        "label_cols": "blue,green,red",
        "image_root": patches,
        "uncertain": "ignore",
        "blank": "ignore",
    }
    # Three images of which nothing is known.
    table = read_images(path, multi_label=True, missing="skip", **columns)
    assert 50 < table.unknown.sum() < 90
    settings = SETTINGS | {"recipe": recipe} | ({} if recipe == "head" else {"epochs": 1})
    compare(table, "bce,asl+mixup,bce+balanced", out=out, folds=2, **settings)
    rows = {image: row for row, image in enumerate(table.images)}
    trained = set()
    for run in sorted(out.glob("runs/bce/*/predictions.parquet")):
        found = read_label_predictions(run)
        trained |= set(found.image)
        at = [rows[image] for image in found.image]
        np.testing.assert_array_equal(found.known, ~table.unknown[at])
        np.testing.assert_array_equal(found.labels, table.labels[at])
    for result in read_results(out).methods:
        evaluation = result.out_of_fold
        assert evaluation is not None
        assert np.isfinite(evaluation["mean_average_precision"].value)
        for c, label in enumerate(evaluation.classes):
            known = ~table.unknown[:, c] & np.isin(table.images, list(trained))
            assert label.n + label.others == known.sum()
    described = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert "left out of losses and metrics" in " ".join(described["reading"]["notes"])
    assert "uncertain (-1) labels are unknown" in (out / "report.html").read_text(encoding="utf-8")


def test_a_loss_that_cannot_leave_labels_out_is_refused(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain_bce.py").write_text(
        "import torch\n\n\nclass PlainBCE(torch.nn.BCEWithLogitsLoss):\n    family = 'sigmoid'\n"
    )
    monkeypatch.chdir(tmp_path)
    path = hide(patches, tmp_path / "t", {True: "-1", False: "0"})
    table = read_images(
        path, multi_label=True, label_cols="blue,green,red", image_root=patches, uncertain="ignore"
    )
    with pytest.raises(UsageError, match=r"cannot leave out unknown labels.*--uncertain and --blank"):
        compare(table, "plain_bce:PlainBCE", out=tmp_path / "s", folds=2, **SETTINGS)


def test_fine_tuning_and_mixing_take_several_labels(patches: Path, tmp_path: Path) -> None:
    table = read_images(patches, multi_label=True).take(np.arange(48))
    settings = SETTINGS | {"epochs": 1, "batch_size": 16}
    out = tmp_path / "s"
    compare(table, "bce+mixup+la", out=out, recipe="quick", folds=2, only_folds=[0], **settings)
    plain, adjusted = (
        read_label_predictions(out / "runs" / name / "seed0-fold0" / "predictions.parquet")
        for name in ("bce+mixup", "bce+mixup+la")
    )
    np.testing.assert_array_equal(plain.posterior, adjusted.posterior)
    assert write_report(out).is_file()
