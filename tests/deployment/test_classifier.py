from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tametail
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.core.errors import DataError, UsageError
from tametail.core.run_files import PREDICTIONS
from tametail.deployment.given_images import find_images
from tametail.deployment.prevalence import read_prevalence
from tametail.evaluation.calibration_maps import apply_map
from tametail.evaluation.conformal import class_thresholds
from tametail.predictions.single_label import ensemble, read_predictions
from tametail.study.study import compare, evaluate_test_set


@pytest.fixture(autouse=True)
def _quick(study_folder: Path) -> Iterator[None]:
    """The study that all share has its figures."""
    with figures_not_rendered():
        yield


@pytest.fixture(scope="module")
def study_folder(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, as predictions of held-out images are recorded in the study."""
    return shutil.copytree(study_folder, tmp_path_factory.mktemp("classifier") / "study")


def test_the_model_is_the_mean_of_the_fold_models_of_the_best_loss(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    evaluate_test_set(out)
    classifier = tametail.load(out)
    assert classifier.method == tametail.Study(out).best_method
    parts = [
        read_predictions(path)
        for path in sorted(out.glob(f"runs/{classifier.method}/*/test_predictions.parquet"))
    ]
    expected = ensemble([apply_map(classifier.facts.calibration, part) for part in parts])
    found = classifier.predict_proba([image_folder / image for image in expected.image])
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_another_loss_can_be_named(study_folder: Path, image_folder: Path) -> None:
    image = image_folder / "images" / "000.png"
    tables = [tametail.load(study_folder, method).predict_table([image]) for method in ("alpa", "ce")]
    assert [table["link"][0] for table in tables] == ["inverse", "softmax"]
    with pytest.raises(UsageError, match=r"\(alpa, ce\), got focal"):
        tametail.load(study_folder, "focal")


def test_a_corrupt_image_is_a_row_with_its_error(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes((image_folder / "images" / "000.png").read_bytes()[:200])
    good = image_folder / "images" / "001.png"
    table = tametail.load(study_folder).predict_table([corrupt, good])
    assert table["error"][0]
    assert table["predicted"].isna().tolist() == [True, False]
    assert table["error"][1] == ""
    with pytest.raises(DataError, match=r"1 of 2 images cannot be read: .*corrupt\.png"):
        tametail.load(study_folder).predict_proba([corrupt, good])


def test_images_are_found_in_folders(image_folder: Path, tmp_path: Path) -> None:
    found = find_images([image_folder, image_folder / "images" / "000.png"])
    assert found.images == sorted((image_folder / "images").iterdir())
    assert (found.duplicates, found.skipped) == (1, 1)  # the second is labels.csv
    with pytest.raises(DataError, match="found none"):
        find_images([tmp_path])
    with pytest.raises(DataError, match="nothing is there"):
        find_images([tmp_path / "absent"])


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tametail compare"):
        tametail.load(tmp_path)


def test_prevalence_weights_the_probabilities(study_folder: Path, image_folder: Path) -> None:
    images = [image_folder / "images" / f"00{index}.png" for index in range(6)]
    classifier = tametail.load(study_folder, "ce")
    names = classifier.facts.class_names
    plain = classifier.predict_proba(images)
    rare = dict.fromkeys(names, 1.0) | {names[-1]: 1000.0}
    table = classifier.predict_table(images, prevalence=rare)
    assert (table["predicted"] == names[-1]).all()
    tilted = table[[f"p_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(tilted.sum(axis=1), 1)
    assert (tilted[:, -1] > plain[:, -1]).all()
    with pytest.raises(UsageError, match=r"missing: .*; unknown: purple"):
        classifier.predict_table(images, prevalence={"purple": 1.0})
    with pytest.raises(UsageError, match=r"prevalences >= 0"):
        classifier.predict_table(images, prevalence=dict.fromkeys(names, -1.0))


def test_prediction_sets_have_the_classes_that_are_not_excluded(
    study_folder: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [image_folder / "images" / f"0{index}0.png" for index in range(7)]
    model = tametail.load(study_folder, "ce")
    names, thresholds = model.facts.class_names, class_thresholds(model.facts.distributions, 0.7)
    assert np.isfinite(thresholds).all()
    table = model.predict_table(images, coverage=0.7)
    assert list(table.columns[:5]) == ["image", "predicted", "most_probable", "prediction_set", "set_size"]
    p = table[[f"p_{name}" for name in names]].to_numpy()
    scores = table[[f"score_{name}" for name in names]].to_numpy()
    assert [names[index] for index in scores.argmax(axis=1)] == table["predicted"].tolist()
    assert [names[index] for index in p.argmax(axis=1)] == table["most_probable"].tolist()
    written = pd.read_csv(io.StringIO(table.to_csv(index=False, float_format="%.9g")))
    again = written[[f"score_{name}" for name in names]].to_numpy().argmax(axis=1)
    assert [names[index] for index in again] == written["predicted"].tolist()
    for row, inside, size in zip(p, table["prediction_set"], table["set_size"], strict=True):
        expected = [names[c] for c in np.argsort(-row) if 1 - row[c] <= thresholds[c]]
        assert inside == "|".join(expected)
        assert size == len(expected)
    # They hold at any prevalence, so that a given one does not change them.
    rare = dict.fromkeys(names, 1.0) | {names[-1]: 1000.0}
    assert model.predict_table(images, coverage=0.7, prevalence=rare)["prediction_set"].equals(
        table["prediction_set"]
    )
    over_all = model.predict_table(images, coverage=0.7, prevalence=rare, sets="prevalence")
    assert not over_all["prediction_set"].equals(table["prediction_set"])
    assert "too rare" not in capsys.readouterr().err
    with pytest.raises(UsageError, match="expected a coverage above 0 and below 1, got 1"):
        model.predict_table(images, coverage=1)
    with pytest.raises(UsageError, match="of kind class or prevalence, got 'all'"):
        model.predict_table(images, sets="all")  # type: ignore[arg-type]


def test_a_class_too_rare_for_the_coverage_is_in_every_set_and_named(
    study_folder: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tametail.load(study_folder, "ce")
    rarest = model.facts.class_names[int(np.argmin([each.groups for each in model.facts.distributions]))]
    table = model.predict_table([image_folder / "images" / "000.png"], coverage=0.9)
    assert rarest in table["prediction_set"][0].split("|")
    said = capsys.readouterr().err
    assert "too rare for prediction sets of 90 % coverage, which take 9 groups" in said
    assert f"{rarest} (" in said


def test_prevalence_is_read_in_three_ways(tmp_path: Path) -> None:
    shares = tmp_path / "shares.json"
    shares.write_text('{"a=b": 1, "c": 3}', encoding="utf-8")
    assert read_prevalence("even", ("x", "y")) == {"x": 1.0, "y": 1.0}
    assert read_prevalence("a=b=0.2, c=1e-3", ("a=b", "c")) == {"a=b": 0.2, "c": 0.001}
    assert read_prevalence(str(shares), ("a=b", "c")) == {"a=b": 1.0, "c": 3.0}
    for bad in ("a", "a=much", "a=1,a=5", "=1", str(tmp_path / "absent.json")):
        with pytest.raises(UsageError, match="expected a prevalence as even"):
            read_prevalence(bad, ("a",))


def test_a_fine_tuned_model_says_of_held_out_images_what_the_study_says(
    image_folder: Path, tmp_path: Path
) -> None:
    study = compare(
        image_folder,
        "ce",
        out=tmp_path / "tuned",
        recipe="quick",
        folds=2,
        only_folds=[0],
        **TINY,
        epochs=1,
    )
    assert study.settings["canvas"] == 46  # larger than the backbone's own, and so sampled
    held_out = read_predictions(next(study.directory.glob(f"runs/*/*/{PREDICTIONS}")))
    found = tametail.load(study.directory).predict_proba([image_folder / image for image in held_out.image])
    np.testing.assert_allclose(found, held_out.probabilities, atol=1e-5)
