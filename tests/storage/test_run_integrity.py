"""Files of runs that were changed or exchanged are named where they are used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tametail as tt
from fixtures.plain_figures import figures_not_rendered
from tametail.core.errors import DataError
from tametail.predictions.single_label import read_predictions, write_predictions
from tametail.storage.run_file import file_digest, read_run_file


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


@pytest.fixture
def study(study_folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    return out


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("waiting"))
    other.rename(one)
    one.with_name("waiting").rename(other)


def test_a_run_keeps_the_digests_of_its_files(study: Path) -> None:
    run = study / "runs/ce/seed0-fold0"
    files = read_run_file(run / "run.json")["files"]
    assert set(files) == {"predictions.parquet", "model.safetensors", "history.csv"}
    assert all(file_digest(run / name) == digest for name, digest in files.items())
    tt.evaluate_test_set(study)
    assert set(read_run_file(run / "run.json")["files"]) - set(files) == {"test_predictions.parquet"}


def test_edited_predictions_are_not_reported(study: Path) -> None:
    path = study / "runs/ce/seed0-fold1/predictions.parquet"
    table = read_predictions(path)
    perfect = table.logits.copy()
    perfect[range(len(table)), table.target] = 99.0
    write_predictions(type(table)(**{**vars(table), "logits": perfect}), path)
    with pytest.raises(
        DataError, match=r"seed0-fold1/predictions\.parquet as its run wrote it.*tametail resume"
    ):
        tt.report(study)


def test_edited_test_predictions_are_not_reported(study: Path) -> None:
    tt.evaluate_test_set(study)
    path = study / "runs/ce/seed0-fold1/test_predictions.parquet"
    shutil.copy(study / "runs/ce/seed0-fold2/test_predictions.parquet", path)
    with pytest.raises(DataError, match=r"seed0-fold1/test_predictions\.parquet as its run wrote it"):
        tt.report(study)


def test_exchanged_weights_are_not_used(study: Path) -> None:
    runs = [study / f"runs/ce/seed0-fold{fold}/model.safetensors" for fold in (0, 1)]
    swap(*runs)
    with pytest.raises(DataError, match=r"model\.safetensors as its run wrote it"):
        tt.load(study, "ce")
    swap(*runs)
    tt.load(study, "ce")


@pytest.mark.parametrize("other", ["runs/ce/seed0-fold1", "runs/alpa/seed0-fold0"])
def test_exchanged_folders_are_not_used(study: Path, other: str) -> None:
    swap(study / "runs/ce/seed0-fold0", study / other)
    with pytest.raises(DataError, match=r"expected ce seed 0 fold 0.*folders of runs were exchanged"):
        tt.load(study, "ce")


def test_a_test_set_evaluation_that_was_killed_before_the_digest_is_made_again(study: Path) -> None:
    tt.evaluate_test_set(study)
    path = study / "runs/ce/seed0-fold1/run.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    digest = described["files"].pop("test_predictions.parquet")
    path.write_text(json.dumps(described), encoding="utf-8")
    (path.parent / "test_predictions.parquet").write_bytes(b"half")
    tt.evaluate_test_set(study)
    assert read_run_file(path)["files"]["test_predictions.parquet"] != digest, "it names another evaluation"
    tt.report(study)
