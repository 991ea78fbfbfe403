"""tametail evaluate on images from elsewhere: external validation of a study's models."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.test_app import run
from cli.test_evaluate import numbers_of, rows_of
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import write_images
from tametail.predictions.single_label import concatenate, read_predictions
from tametail.report import write_report
from tametail.storage.evaluation_file import read_evaluation_file, read_tables


@pytest.fixture(autouse=True)
def _quick(study_folder: Path) -> Iterator[None]:
    """The study that all share has its figures."""
    with figures_not_rendered():
        yield


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other images of the study's colours: one called otherwise, one of no class, and none that are crimson."""
    folder = write_images(tmp_path_factory.mktemp("elsewhere") / "other", seed=5)
    text = (folder / "labels.csv").read_text(encoding="utf-8")
    lines = text.replace(",amber,", ",gold,").splitlines()
    for number, line in enumerate(lines):
        if ",crimson," in line:
            lines[number] = line.replace(",crimson,", ",grey,")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def validated(study_folder: Path, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both losses of the study on the other images; tests only read it."""
    out = tmp_path_factory.mktemp("validated") / "out"
    options = ("--map", "gold=amber", "--drop-unknown", *("--by", "site") * 2, "--operating", "blue=0.8")
    code, output, errors = run("evaluate", study_folder, "--data", elsewhere, "-o", out, *options)
    assert code == 0, errors
    assert "gold is mapped to amber: 40 images" in errors
    assert "left out, as the study has no such class: grey (10 images)" in errors
    assert "no image of crimson" in errors
    assert "byte for byte" not in errors
    assert "ce, ensemble of 3" in output
    return out


def test_fold_models_are_replicates_and_their_ensemble_stands_beside(
    validated: Path, study_folder: Path, elsewhere: Path
) -> None:
    about = read_evaluation_file(validated)
    assert about.class_names == ("amber", "blue", "crimson")
    assert about.by == ("site",)  # although named twice
    assert [model.name for model in about.models] == [
        "alpa",
        "alpa, ensemble of 3",
        "ce",
        "ce, ensemble of 3",
    ]
    assert [len(model.tables) for model in about.models] == [3, 1, 3, 1]
    tables = read_tables(validated, about.models[2])
    assert [set(table.fold.tolist()) for table in tables] == [{0}, {1}, {2}]
    assert len(tables[0]) == 60
    assert not (tables[0].target == 2).any()


def test_the_ensemble_is_what_the_study_would_predict(
    validated: Path, study_folder: Path, elsewhere: Path
) -> None:
    from tametail.deployment.load import load

    about = read_evaluation_file(validated)
    (table,) = read_tables(validated, about.models[3])
    said = load(study_folder, "ce").predict_proba([elsewhere / image for image in table.image])
    np.testing.assert_allclose(table.probabilities, said, atol=1e-6)


def test_the_report_lists_absent_classes_and_omitted_images(validated: Path) -> None:
    page = (validated / "report.html").read_text(encoding="utf-8")
    assert "Classes without an image" in page
    assert "grey (10 images)" in page
    assert "gold as amber (40 images)" in page
    assert "colours on other" in page
    assert "chosen on images that were held out in the" in page
    row = rows_of(validated)["ce"]
    assert (row["recall_crimson"], row["n_crimson"], row["tables"]) == ("", "0", "3")
    (number,) = numbers_of(validated, method="ce", set="by_site_site0", metric="accuracy")
    assert number["n"] == "30"


def test_thresholds_are_chosen_on_the_studys_own_calibrated_predictions(
    validated: Path, study_folder: Path
) -> None:
    from tametail.evaluation.calibration_maps import calibrate_out_of_fold
    from tametail.evaluation.operating import threshold_for

    paths = sorted((study_folder / "runs" / "ce").glob("*/predictions.parquet"))
    held_out = calibrate_out_of_fold([concatenate([read_predictions(path) for path in paths])]).tables
    model = read_evaluation_file(validated).models[2]
    p = np.concatenate([table.probabilities[:, 1] for table in held_out])
    positive = np.concatenate([table.target == 1 for table in held_out])
    assert model.thresholds == (pytest.approx(threshold_for(positive, p, 0.8)),)
    assert float(rows_of(validated)["ce"]["threshold_blue_0.8"]) == pytest.approx(
        threshold_for(positive, p, 0.8), abs=1e-6
    )


def test_the_report_of_a_validation_can_be_made_again(validated: Path, tmp_path: Path) -> None:
    out = tmp_path / "moved"
    shutil.copytree(validated, out)
    write_report(out)
    assert (out / "results.csv").read_bytes() == (validated / "results.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--map", "gold=amber"], 3, r"found grey (10 images) too"),
        (["--map", "gold=yellow", "--drop-unknown"], 2, "expected a class of the study for --map"),
        (["--map", "gilt=amber", "--drop-unknown"], 2, "did you mean gold"),
        (["--methods", "ldam"], 2, "expected methods of this study (alpa, ce)"),
        (["--methods", "nothing"], 2, "the methods of this study are alpa, ce"),
        (["--by", "sex"], 2, "found site"),
        (["--operating", "grey=0.9"], 2, "expected one of the classes"),
        (["--label-col", "diagnosis"], 3, "diagnosis"),
    ],
)
def test_mistakes_about_other_images(
    study_folder: Path, elsewhere: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    found, _, errors = run("evaluate", study_folder, "--data", elsewhere, "-o", tmp_path / "out", *words)
    assert found == code, errors
    assert message in errors
    assert not (tmp_path / "out" / "evaluation.json").exists()


def own_images(study: Path, source: Path, folder: Path, *, part: str) -> Path:
    """A copy of the study's images under other names, listed without those of the other part."""
    rows = csv.DictReader((study / "splits.csv").read_text(encoding="utf-8").splitlines())
    part_of = {row["image"]: row["part"] for row in rows}
    header, *lines = (source / "labels.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if part_of[line.split(",")[0]] == part]
    shutil.copytree(source / "images", folder / "renamed")
    text = "\n".join([header, *(line.replace("images/", "renamed/") for line in kept)]) + "\n"
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def test_the_studys_training_images_are_no_validation(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    folder = own_images(study_folder, image_folder, tmp_path / "own", part="train")
    count = len((folder / "labels.csv").read_text(encoding="utf-8").splitlines()) - 1
    code, output, errors = run(
        "evaluate", study_folder, "--data", folder, "-o", tmp_path / "out", "--methods", "ce"
    )
    assert code == 0, errors
    said = (
        f"{count} of {count} images are among those that its models were trained on ({count} byte for byte)"
    )
    assert said in errors
    assert "alpa" not in output


def test_images_of_the_test_set_are_refused(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    only = own_images(study_folder, image_folder, tmp_path / "own", part="test")
    count = len((only / "labels.csv").read_text(encoding="utf-8").splitlines()) - 1
    for folder, total in ((only, count), (image_folder, 70)):
        out = tmp_path / f"out{total}"
        code, output, errors = run("evaluate", study_folder, "--data", folder, "-o", out, "--methods", "ce")
        assert code == 3, errors
        said = f"{count} of {total} images are of the study's held-out test set ({count} byte for byte)"
        assert said in errors
        assert "tametail test-set" in errors
        assert output == ""
        assert not list(out.iterdir())


def test_unfinished_losses_are_left_out_or_named(study_folder: Path, elsewhere: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(study_folder, study)
    run_file = next((study / "runs" / "alpa").glob("*/run.json"))
    described = json.loads(run_file.read_text(encoding="utf-8")) | {"status": "failed"}
    run_file.write_text(json.dumps(described), encoding="utf-8")
    words = ["evaluate", study, "--data", elsewhere, "--map", "gold=amber", "--drop-unknown"]
    code, output, errors = run(*words, "-o", tmp_path / "out")
    assert code == 0
    assert "left out, as their runs are not all finished: alpa" in errors
    assert "alpa" not in output
    code, _, errors = run(*words, "-o", tmp_path / "named", "--methods", "alpa,ce")
    assert code == 1
    assert "alpa lacks 1 of 3 runs" in errors


def test_images_that_cannot_be_read_are_left_out(study_folder: Path, elsewhere: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(elsewhere, folder)
    (folder / "images" / "000.png").write_bytes(b"no image")
    words = [
        "evaluate",
        study_folder,
        "--data",
        folder,
        "--map",
        "gold=amber",
        "--drop-unknown",
        "--methods",
        "ce",
    ]
    code, _, errors = run(*words, "-o", tmp_path / "out")
    assert code == 0
    assert "1 of 60 images cannot be read" in errors
    assert rows_of(tmp_path / "out")["ce"]["n"] == "59"
