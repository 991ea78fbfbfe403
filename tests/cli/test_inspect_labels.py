"""inspect --labels: suspected label errors of a finished study, in the terminal, as JSON and as a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import tametail as tt
from cli.test_app import run
from fixtures.class_study import write_study
from fixtures.label_study import write_label_study
from tametail.core.errors import DataError, UsageError
from tametail.evaluation.label_errors import MOST_OF_A_GROUP
from tametail.predictions.single_label import read_predictions, write_predictions
from tametail.report.audit.labels_page import MOST_PICTURED

KEYS = {"schema", "name", "method", "images", "groups", "suspects", "classes", "listed", "balanced_accuracy"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with evaluated test set and images; tests only read it."""
    folder = tmp_path_factory.mktemp("labels")
    return write_study(
        folder / "study", methods=("ce", "alpa"), test_set_evaluations=1, image_root=folder / "images"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_terminal_names_image_labels_probabilities_and_group(study: Path) -> None:
    before = contents(study)
    found = tt.inspect_labels(study)
    code, output, _ = run("inspect", "--labels", study)
    assert code == 0
    said = " ".join(output.split())
    first, names = found.errors.suspects[0], found.class_names
    assert found.summary() in said
    assert first.image in said
    cells = (names[first.given], f"{100 * first.p_given:.1f}", names[first.suggested])
    group = f"{first.group_given}, {first.group_suggested} of {first.group_images}"
    assert " ".join((*cells, f"{100 * first.p_suggested:.1f}", group)) in said
    assert "if the first 20 were wrong" in said
    assert "not a proven error" in said
    assert contents(study) == before, "a study is only read"


def test_no_image_of_the_test_set_is_looked_at(study: Path, tmp_path: Path) -> None:
    splits = pd.read_csv(study / "splits.csv")
    training = set(splits["image"][splits["part"] == "train"])
    # The page needs no test image, and no file of test predictions is read.
    copied = Path(shutil.copytree(study, tmp_path / "copy"))
    for path in copied.glob("runs/*/*/test_predictions.parquet"):
        path.write_bytes(b"damaged")
    found = tt.inspect_labels(copied)
    assert found.images == len(training)
    assert {one.image for one in found.errors.suspects} <= training
    assert sum(map(sum, found.errors.joint.tolist())) <= len(training)


def test_predictions_of_a_test_image_are_refused(study: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(study, tmp_path / "copy"))
    splits = pd.read_csv(copied / "splits.csv")
    moved = splits.index[splits["part"] == "train"][0]
    splits.loc[moved, "part"] = "test"
    splits.to_csv(copied / "splits.csv", index=False)
    with pytest.raises(DataError, match=r"found 1 image that splits\.csv does not have in the training set"):
        tt.inspect_labels(copied)


def test_a_planted_flip_is_the_first_suspect(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", methods=("alpa",))
    path = study / "runs" / "alpa" / "seed0-fold0" / "predictions.parquet"
    table = read_predictions(path)
    row = 7
    table.logits[row] = 0
    table.logits[row, (table.target[row] + 2) % 7] = 12
    write_predictions(table, path)
    first = tt.inspect_labels(study).errors.suspects[0]
    assert first.image == table.image[row]
    assert first.suggested == (table.target[row] + 2) % 7


def test_the_json_has_the_documented_keys(study: Path) -> None:
    code, output, _ = run("inspect", "--labels", study, "--json", "--quiet")
    content = json.loads(output)
    assert code == 0
    assert set(content) == KEYS
    assert content["schema"] == "tametail.labels/1"
    documented = Path(__file__).parents[2].joinpath("docs/data.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in documented for key in (*KEYS, *content["listed"][0], *content["classes"][0]))
    counts: dict[str, int] = {}
    for one in content["listed"]:
        counts[one["group"]] = counts.get(one["group"], 0) + 1
        assert one["group_images"] <= 3
    assert max(counts.values()) <= MOST_OF_A_GROUP
    assert content["balanced_accuracy"][0]["replaced"] == 0
    low, value, high = (content["balanced_accuracy"][2][key] for key in ("low", "value", "high"))
    assert low < value < high


def test_the_headline_without_replaced_labels_is_that_of_the_report(study: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(study, tmp_path / "copy"))
    tt.report(copied, images=False)
    rows = pd.read_csv(copied / "results.csv")
    found = tt.inspect_labels(study)
    reported = rows[rows["method"] == found.method].iloc[0]
    assert found.moves[0][1].value == pytest.approx(reported["balanced_accuracy"], abs=1e-6)


def test_the_page_has_pictures_and_works_without_images(study: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "labels.html"
    code, _, errors = run("inspect", "--labels", study, "-o", page)
    assert code == 0
    assert str(page) in errors
    text = page.read_text(encoding="utf-8")
    found = tt.inspect_labels(study)
    assert text.count("<img ") == min(MOST_PICTURED, len(found.errors.suspects))
    assert all(one.image in text for one in found.errors.suspects)
    assert "http" not in text.replace("http-equiv", "")
    run("inspect", "--labels", study, "-o", page, "--image-root", tmp_path / "nowhere")
    text = page.read_text(encoding="utf-8")
    assert "<img " not in text
    assert "--image-root FOLDER" in text


def test_a_study_of_several_labels_is_refused_by_name(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study")
    code, output, errors = run("inspect", "--labels", study, "--json")
    assert code == 2
    assert "(lungs) is a multi-label study" in errors
    assert "multi-label" in json.loads(output)["error"]
    with pytest.raises(UsageError, match="lungs"):
        tt.inspect_labels(study)


def test_an_unfinished_study_and_no_study_are_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", methods=("alpa",))
    shutil.rmtree(study / "runs" / "alpa" / "seed0-fold1")
    assert "alpa 2 of 3" in run("inspect", "--labels", study)[2]
    code, _, errors = run("inspect", "--labels", tmp_path / "absent")
    assert code == 3
    assert "absent" in errors


def test_either_data_or_labels(study: Path) -> None:
    for words in ((), (study, "--labels", study)):
        code, _, errors = run("inspect", *words)
        assert code == 2
        assert "expected either data or --labels STUDY" in errors
    code, _, errors = run("inspect", "--labels", study, "--label-col", "dx", "--folds", 5)
    assert code == 2
    assert "--label-col" in errors
    assert "--folds" in errors
