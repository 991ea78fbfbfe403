from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.leftovers import left_over
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import STEP_BY_STEP, TINY, write_images
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.external.evaluate import evaluate
from tametail.predictions.single_label import concatenate, read_predictions
from tametail.storage import study_file
from tametail.storage.locks import lock_folder
from tametail.study.study import Study, compare, evaluate_test_set, resume
from tametail.training import execute as execute_module
from tametail.training.checkpointing.checkpointer import Stopped

FIELDS = TINY | {"epochs": 8, "lr": 1e-2}


@pytest.fixture(autouse=True)
def _quick(study_folder: Path) -> Iterator[None]:
    """The study that all share has its figures."""
    with figures_not_rendered():
        yield


def again(images: Path, out: Path, methods: str = "alpa,ce", **options: object) -> Study:
    return compare(images, methods, out=out, **({"folds": 3} | FIELDS | options))  # type: ignore[arg-type]


def test_a_study_holds_what_its_layout_says(study_folder: Path) -> None:
    top = {entry.name for entry in study_folder.iterdir() if not entry.name.startswith(".")}
    assert {
        "report.html",
        "results.csv",
        "results_long.csv",
        "results.md",
        "results.tex",
        "metrics.json",
        "model_card.md",
        "study.json",
        "table.parquet",
        "splits.csv",
        "runs",
    } <= top
    runs = sorted(path.parent.name for path in study_folder.glob("runs/ce/*/run.json"))
    assert runs == ["seed0-fold0", "seed0-fold1", "seed0-fold2"]
    assert not list(study_folder.glob("runs/*/*/test_predictions.parquet"))
    described = json.loads((study_folder / "study.json").read_text(encoding="utf-8"))
    assert described["methods"] == ["alpa", "ce"]
    assert described["table"]["images"] == 70


def test_each_training_image_is_predicted_once_by_a_model_that_never_saw_it(study_folder: Path) -> None:
    import pandas as pd

    splits = pd.read_csv(study_folder / "splits.csv")
    pooled = concatenate(
        [read_predictions(path) for path in sorted(study_folder.glob("runs/ce/*/predictions.parquet"))]
    )
    trained = splits[splits["part"] == "train"].sort_values("image")
    assert pooled.image.tolist() == trained["image"].tolist()
    assert pooled.fold.tolist() == trained["fold"].tolist()
    for path in study_folder.glob("runs/ce/*/run.json"):
        described = json.loads(path.read_text(encoding="utf-8"))
        assert sum(described["class_counts"].values()) == int((trained["fold"] != described["fold"]).sum())


def test_a_head_learns_the_colours(study_folder: Path) -> None:
    results = Study(study_folder).results
    assert sorted(results["method"]) == ["alpa", "ce"]
    assert results["balanced_accuracy"].max() > 0.6


def test_repeating_a_finished_study_trains_nothing(
    study_folder: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    before = (out / "results.csv").read_bytes()
    for name in ("execute", "execute_heads"):
        monkeypatch.setattr(
            f"tametail.study.train_units.{name}", lambda *_, **__: pytest.fail("a finished run was repeated")
        )
    again(image_folder, out)
    assert (out / "results.csv").read_bytes() == before


def test_an_interrupted_study_goes_on_to_the_same_result(
    study_folder: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = execute_module.save_predictions, []

    def interrupts(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise Stopped
        real(*arguments)  # type: ignore[arg-type]

    out = tmp_path / "study"
    monkeypatch.setattr(execute_module, "save_predictions", interrupts)
    with pytest.raises(Stopped):
        again(image_folder, out)
    assert 2 <= len(list(out.glob("runs/*/seed*"))) < 6, "what trains beside it is let finish"
    assert (out / "report.html").is_file(), "what is finished stays usable"
    left_over(out / "runs" / "ce" / "seed0-fold2").mkdir(parents=True)  # what a kill leaves behind
    left_over(out / "backbone.safetensors").touch()
    again(image_folder, out)
    assert (out / "results.csv").read_bytes() == (study_folder / "results.csv").read_bytes()
    assert not list(out.glob("runs/*/.*"))
    assert not list(out.glob(".backbone*"))


def test_methods_and_repeats_add_up(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    study = again(image_folder, out, "focal", repeats=2)
    assert study.settings["methods"] == ["alpa", "ce", "focal"]
    assert study.settings["seeds"] == [0, 1]
    assert len(list(out.glob("runs/*/*/predictions.parquet"))) == 3 * 3 * 2


def test_another_study_is_not_mixed_in(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    for options, difference in (
        ({"folds": 2}, "splits.folds is 3, not 2"),
        ({"seed": 1}, "splits.seed is 0, not 1"),
        ({"epochs": 9}, "recipe.epochs is 8, not 9"),
    ):
        with pytest.raises(UsageError, match=difference):
            again(image_folder, out, **options)  # type: ignore[arg-type]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(UsageError, match=r"found holiday\.jpg"):
        again(image_folder, tmp_path / "photos")


def test_a_study_killed_before_it_was_written_down_can_begin_again(
    image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    out.mkdir()
    for name in (".lock", "table.parquet"):
        (out / name).touch()
    for name in ("splits.csv", "study.json", "probe"):
        left_over(out / name).touch()
    assert again(image_folder, out, "ce", folds=2).failed == ()
    assert not list(out.glob("*.tmp"))


def test_an_output_that_cannot_be_written_is_named(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TametailError, match="cannot be written") as caught:
        again(image_folder, tmp_path / "file" / "study")
    assert caught.value.exit_code == 1


def test_one_process_at_a_time(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    with lock_folder(out), pytest.raises(TametailError, match="another process"):
        again(image_folder, out)


def test_a_failed_run_is_named_and_its_loss_has_no_result(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tametail.training.heads import head_training

    real = head_training.note_failures

    def fails(place: Any, methods: torch.Tensor, epoch: int, step: int) -> Any:
        return real(place, methods * float("nan") if epoch == 1 and failing else methods, epoch, step)

    failing = True
    monkeypatch.setattr(head_training, "note_failures", fails)
    out = tmp_path / "study"
    study = again(image_folder, out, "ce", set=(STEP_BY_STEP,))
    assert len(study.failed) == 3
    assert "epoch 2" in study.failed[0]
    described = json.loads((out / "runs/ce/seed0-fold0/run.json").read_text(encoding="utf-8"))
    assert described["status"] == "failed"
    splits = (out / "splits.csv").read_text(encoding="utf-8")
    assert described["batch"], "the images of the step that failed are named"
    assert all(f"{image},train,0" not in splits for image in described["batch"])
    failing = False
    assert again(image_folder, out, "ce", set=(STEP_BY_STEP,)).failed == ()


def test_unreadable_images_are_named_and_left_out(image_folder: Path, tmp_path: Path) -> None:
    images = tmp_path / "colours"
    shutil.copytree(image_folder, images)
    (images / "images" / "003.png").write_bytes(b"")
    study = again(images, tmp_path / "study", "ce")
    assert study.settings["table"]["images"] == 69
    assert [entry["image"] for entry in study.settings["table"]["unreadable"]] == ["images/003.png"]


def test_a_test_set_evaluation_is_recorded(study_folder: Path, tmp_path: Path) -> None:
    import pandas as pd

    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    before = Study(out).results
    assert not any(column.startswith("test_") for column in before.columns)
    evaluated = evaluate_test_set(out)
    splits = pd.read_csv(out / "splits.csv")
    held_out = sorted(splits.loc[splits["part"] == "test", "image"])
    predictions = read_predictions(out / "runs/ce/seed0-fold1/test_predictions.parquet")
    assert sorted(predictions.image.tolist()) == held_out
    assert set(predictions.fold) == {1}
    assert any(column.startswith("test_") for column in evaluated.results.columns)
    evaluate_test_set(out)
    records = study_file.read_test_set_evaluations(out)
    assert [entry["evaluation"] for entry in records] == [1, 2]
    assert records[0]["methods"] == ["alpa", "ce"]
    assert (records[0]["new_runs"], records[1]["new_runs"]) == (6, 0)


def test_a_test_set_evaluation_needs_the_same_images(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out, moved = tmp_path / "study", tmp_path / "moved"
    shutil.copytree(study_folder, out)
    shutil.copytree(image_folder, moved)
    first, second = (moved / "images" / name for name in ("000.png", "001.png"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match="have changed since"):
        evaluate_test_set(out, image_root=moved)
    assert study_file.read_test_set_evaluations(out) == []
    first.write_bytes(content)
    evaluate_test_set(out, image_root=moved)
    with pytest.raises(DataError, match="70 of 70 are missing"):
        evaluate_test_set(out, image_root=tmp_path)
    noted = json.loads((out / "source.json").read_text(encoding="utf-8"))["image_root"]
    assert noted == str(moved), "the new place is remembered, the wrong one is not"


def test_a_study_is_resumed_with_its_own_settings(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out, moved = tmp_path / "study", tmp_path / "moved"
    shutil.copytree(study_folder, out)
    shutil.copytree(image_folder, moved)
    shutil.rmtree(out / "runs" / "ce" / "seed0-fold1")
    (out / "results.csv").unlink()
    assert resume(out, image_root=moved).failed == ()
    assert (out / "results.csv").read_bytes() == (study_folder / "results.csv").read_bytes()
    assert json.loads((out / "source.json").read_text(encoding="utf-8"))["image_root"] == str(moved)


def test_fine_tuning_gives_a_study_too(image_folder: Path, tmp_path: Path) -> None:
    fields = TINY | {"epochs": 2}
    study = compare(image_folder, "ce,ldam", out=tmp_path / "s", recipe="quick", folds=2, **fields)
    assert len(study.results) == 2
    assert np.isfinite(study.results["balanced_accuracy"]).all()
    evaluate_test_set(study.directory)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"methods": "alpha"}, UsageError, "alpa"),
        ({"methods": "alpa[gama_neg=2]"}, UsageError, "gamma_neg"),
        ({"methods": ""}, UsageError, "methods separated by commas"),
        ({"methods": []}, UsageError, "at least one method"),
        ({"folds": 1}, UsageError, "at least 2 folds, got 1"),
        ({"repeats": 0}, UsageError, "at least 1 repeat"),
        ({"methods": "lade", "micro_batch": 4}, UsageError, "whole batch"),
        ({"methods": "torch.nn:NLLLoss+mixup"}, UsageError, "NLLLoss"),
        ({"only_folds": [3]}, UsageError, "folds among 0 to 2"),
        ({"methods": "ce+lo"}, UsageError, "did you mean la"),
        ({"methods": "ce+cutmix"}, UsageError, "cutmix"),
        ({"folds": 6}, DataError, "crimson.*at most 4"),
        ({"recipe": "slow"}, UsageError, "head, modern, paper, quick"),
        ({"backbone": "resnet"}, UsageError, "timm model"),
        ({"weights": "absent.pth"}, UsageError, "absent.pth"),
    ],
)
def test_bad_configurations_are_refused(
    image_folder: Path, tmp_path: Path, options: dict[str, object], error: type[TametailError], message: str
) -> None:
    with pytest.raises(error, match=message):
        again(image_folder, tmp_path / "study", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "study" / "study.json").exists()


def test_the_order_of_grades_is_kept_in_the_study(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    order = ["blue", "amber", "crimson"]
    with pytest.raises(UsageError, match="missing: crimson; unknown: pink"):
        again(image_folder, out, class_order=["blue", "amber", "pink"])
    assert "class_order" not in again(image_folder, out).settings
    study = again(image_folder, out, class_order=order)
    assert study.settings["class_order"] == order
    assert study.results["class_order"].tolist() == ["blue < amber < crimson"] * 2
    assert again(image_folder, out).settings["class_order"] == order
    assert "--class-order blue,amber,crimson" in study.report.read_text(encoding="utf-8")
    evaluation = evaluate(
        out, data=write_images(tmp_path / "other", seed=5), out=tmp_path / "e", methods="ce"
    )
    metrics = json.loads((evaluation.directory / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["class_order"] == order
    assert "class_order" not in again(image_folder, out, class_order="").results
