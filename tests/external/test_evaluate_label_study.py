"""tametail evaluate on images from elsewhere that may have several labels: external validation of a multi-label study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli.test_app import run
from cli.test_evaluate import rows_of
from fixtures.patches import PATCHES, draw_patches
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.evaluation import evaluate_labels
from tametail.evaluation.label_calibration import LabelMap, calibrate_labels, deployed_thresholds
from tametail.evaluation.paired_labels import paired_label_table
from tametail.predictions.multi_label import concatenate_labels, read_label_predictions
from tametail.storage.evaluation_file import read_evaluation_file, read_label_tables


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two losses and two folds; tests only read it."""
    from tametail.data import read_images
    from tametail.study.study import compare

    folder = tmp_path_factory.mktemp("label-study")
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        images = draw_patches(folder / "patches")
        lines = (images / "labels.csv").read_text(encoding="utf-8").splitlines()
        for number in range(1, len(lines), 3):  # wrong labels, so that probabilities are too extreme
            image, label, group = lines[number].split(",")
            others = "|".join(name for name in PATCHES if name not in label)
            lines[number] = f"{image},{others},{group}"
        (images / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        table = read_images(images, multi_label=True)
        compare(table, "asl,bce", out=folder / "study", folds=2, **TINY, epochs=6, lr=2e-2)
    return folder / "study"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other images of two of the labels, one called otherwise, and another label; red is written nowhere, some green unknown.

    Every sixth image has wrong labels, so that no model finds all.
    """
    folder = draw_patches(tmp_path_factory.mktemp("elsewhere") / "other", 60, seed=3)
    lines = ["image,group,navy,green,grey"]
    for number, line in enumerate((folder / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]):
        image, label, group = line.split(",")
        wrong = number % 6 == 0
        green = "-1" if number % 5 == 0 else str(int(("green" in label) != wrong))
        lines.append(f"{image},{group},{int(('blue' in label) != wrong)},{green},{int(number % 7 == 0)}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


OPTIONS = (
    *("--multi-label", "--label-cols", "navy,green,grey", "--uncertain", "ignore"),
    *("--map", "navy=blue", "--drop-unknown"),
)


@pytest.fixture(scope="module")
def validated(study: Path, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("validated") / "out"
    with figures_not_rendered():
        code, output, errors = run("evaluate", study, "--data", elsewhere, "-o", out, *OPTIONS)
    assert code == 0, errors
    assert "navy is mapped to blue" in errors
    assert "left out, as the study has no such class: grey (9 images)" in errors
    assert "no image has red" in errors
    assert "Mean AP, %" in output
    assert "bce, ensemble of 2" in output
    return out


def test_labels_are_matched_by_name_and_others_are_unknown(validated: Path, elsewhere: Path) -> None:
    about = read_evaluation_file(validated)
    assert about.multi_label
    assert about.class_names == ("blue", "green", "red")
    (table,) = read_label_tables(validated, about.models[1])
    rows = [
        line.split(",") for line in (elsewhere / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]
    ]
    assert table.image.tolist() == [row[0] for row in rows]
    assert len(table) == 60  # none was left out with the label grey
    np.testing.assert_array_equal(table.labels[:, 0], [row[2] == "1" for row in rows])
    np.testing.assert_array_equal(table.labels[:, 1], [row[3] == "1" for row in rows])
    np.testing.assert_array_equal(table.known[:, 1], [row[3] != "-1" for row in rows])
    assert not table.known[:, 2].any()


def test_the_ensemble_is_what_the_study_would_predict(validated: Path, study: Path, elsewhere: Path) -> None:
    from tametail.deployment.load import load

    model = read_evaluation_file(validated).models[3]
    (table,) = read_label_tables(validated, model)
    classifier = load(study, "bce")
    assert isinstance(classifier.facts.calibration, LabelMap)
    assert classifier.facts.calibration.changed.any()  # the probabilities are calibrated ones
    said = classifier.predict_proba([elsewhere / image for image in table.image])
    np.testing.assert_allclose(table.posterior, said, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(model.label_thresholds, classifier.facts.thresholds)


def test_metrics_are_at_the_thresholds_of_the_out_of_fold_predictions(validated: Path, study: Path) -> None:
    paths = sorted(study.glob("runs/asl/*/predictions.parquet"))
    held_out = concatenate_labels([read_label_predictions(path) for path in paths])
    thresholds = deployed_thresholds([held_out], calibrate_labels([held_out]).map)
    model = read_evaluation_file(validated).models[0]
    assert model.name == "asl"
    assert model.label_thresholds == tuple(thresholds.tolist())
    tables = read_label_tables(validated, model)
    assert len(tables) == 2
    expected, row = evaluate_labels(tables, thresholds), rows_of(validated)["asl"]
    assert 0.2 < expected["mean_average_precision"].value < 0.95
    for metric in ("mean_average_precision", "macro_auroc", "macro_f1"):
        assert float(row[metric]) == pytest.approx(expected[metric].value, abs=1e-6)
        assert float(row[f"{metric}_low"]) == pytest.approx(expected[metric].low, abs=1e-6)
    assert float(row["f1_blue"]) == pytest.approx(expected["f1", "blue"].value, abs=1e-6)
    assert (row["average_precision_red"], row["n_red"]) == ("", "0")


def test_methods_are_compared_in_pairs_and_label_by_label(validated: Path) -> None:
    about = read_evaluation_file(validated)
    tables = {model.name: read_label_tables(validated, model) for model in about.models}
    content = json.loads((validated / "metrics.json").read_text(encoding="utf-8"))
    assert content["multi_label"]
    assert content["ranked_by"] == "mean_average_precision"
    found = next(one for one in content["pairs"] if {one["a"], one["b"]} == {"asl", "bce"})
    expected = paired_label_table({name: tables[name] for name in (found["a"], found["b"])}).pair(0, 1)
    assert found["p"] == pytest.approx(expected.p, abs=1e-6)
    assert {one["class"] for one in content["by_class"]} == set(about.class_names)
    page = (validated / "report.html").read_text(encoding="utf-8")
    assert "--multi-label" in about.command
    for text in (
        "which were chosen on other images",
        "Labels of no image, taken as unknown",
        "navy as blue",
        "grey (9 images)",
        "Label by label",
    ):
        assert text in page
    assert "Cross-validation</dt>" not in page
    assert "which were chosen on other images" in (validated / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (OPTIONS[:-1], 3, "grey (9 images) too"),
        (["--label-cols", "navy,grey", "--multi-label", "--drop-unknown"], 3, "found none; name pairs of labels"),
        ([*OPTIONS, "--map", "grey=purple"], 2, "expected a class of the study for --map"),
        ([*OPTIONS, "--by", "group"], 2, "--by can only be given for images of one class each"),
        ([*OPTIONS, "--operating", "blue=0.9"], 2, "--operating can only be given"),
        (["--label-col", "group"], 2, "add --multi-label"),
    ],
)  # fmt: skip
def test_mistakes(
    study: Path, elsewhere: Path, tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    found, _, errors = run("evaluate", study, "--data", elsewhere, "-o", tmp_path / "out", *options)
    assert found == code, errors
    assert message in " ".join(errors.split())
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_a_study_of_one_label_per_image_refuses_several(study_folder: Path, tmp_path: Path) -> None:
    folder = draw_patches(tmp_path / "p", 12)
    found, _, errors = run(
        "evaluate", study_folder, "--data", folder, "--multi-label", "-o", tmp_path / "out"
    )
    assert found == 2
    assert "leave --multi-label out" in " ".join(errors.split())
