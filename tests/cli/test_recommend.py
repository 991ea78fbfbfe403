"""tametail recommend, from images to an answer."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors import safe_open

import tametail as tt
from cli.test_app import run
from fixtures.forked import fork_server
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from fixtures.tiny_study import words as as_words
from tametail.recommend import objective as objectives
from tametail.recommend import trainings
from tametail.recommend.outputs import HeadOutputs, outputs_store
from tametail.recommend.writers import console_text
from tametail.training.run import TrainingKey

OPTIONS = ("--folds", "3", *as_words(TINY))
FEW = ("--epochs", "3", "--batch-size", "32", "--device", "cpu")


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


@pytest.fixture(scope="module")
def finished(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished recommendation that no test may change."""
    out = tmp_path_factory.mktemp("recommended") / "colours"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        code, output, errors = run("recommend", image_folder, "-o", out, *OPTIONS, *FEW)
    assert code == 0, errors
    (out.parent / "output.txt").write_text(output, encoding="utf-8")
    return out


def test_it_says_what_to_use_and_what_to_run_next(finished: Path, image_folder: Path) -> None:
    output = (finished.parent / "output.txt").read_text(encoding="utf-8")
    content = json.loads((finished / "recommend.json").read_text(encoding="utf-8"))
    assert f"Use {content['recommended'].partition('[')[0]}" in output
    assert f"tametail compare {image_folder} --methods" in output
    for option in ("--backbone test_efficientnet --weights none --image-size 32", "--folds 3"):
        assert option in output
    assert output.splitlines()[-1] == f"Report: {finished / 'recommend.html'}"
    names = {entry.name for entry in finished.iterdir()} - {".lock"}
    pages = {"recommend.json", "recommend.md", "recommend.html"}
    assert names == pages | {"outputs", "settings.json", "splits.csv"}
    assert len(list((finished / "outputs").iterdir())) == 3 + 3


def test_the_test_set_is_not_looked_at(finished: Path) -> None:
    splits = pd.read_csv(finished / "splits.csv")
    content = json.loads((finished / "recommend.json").read_text(encoding="utf-8"))
    inside = splits[splits["part"] == "train"]
    assert content["images"] == len(inside)
    assert content["test_images"] == len(splits) - len(inside) > 0
    for path in (finished / "outputs").iterdir():
        without = [int(part) for part in path.stem.partition("without")[2].split("-")]
        with safe_open(path, framework="numpy") as file:
            assert file.get_tensor("logits").shape[1] == int(inside["fold"].isin(without).sum())


def test_a_finished_one_is_not_trained_again_and_gives_the_same(
    finished: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(trainings, "run_trials", refuse)
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    found = tt.recommend(image_folder, out=finished, folds=3, device="cpu", **TINY, epochs=3, batch_size=32)
    assert found.recommended == found.content["recommended"]
    assert found.answer[0].startswith("Use ")
    assert found.report.is_file()
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed <= {
        "recommend.json",
        "recommend.md",
        "recommend.html",
    }  # the next command names no DATA here


def test_interrupted_it_ends_in_130_and_goes_on_to_the_same_answer(
    finished: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def interrupted(part: Any, training: Any, *rest: Any) -> Any:
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGINT)  # the first one lets the current training finish
        done.append(training.name)
        return _stored(finished, training)

    monkeypatch.setattr(trainings, "train_methods", interrupted)
    words = ("recommend", image_folder, "-o", tmp_path / "out", *OPTIONS, *FEW)
    code, _, errors = run(*words)
    assert code == 130
    assert "Finished work is saved; repeat the command to continue." in " ".join(errors.split())
    assert len(list((tmp_path / "out" / "outputs").iterdir())) == 3 == len(done)
    code, _, errors = run(*words)
    assert code == 0, errors
    assert len(done) == len(set(done)) == 6  # each once; training goes on for real where it is killed, below
    ours, theirs = (
        json.loads((folder / "recommend.json").read_text(encoding="utf-8"))["candidates"]
        for folder in (tmp_path / "out", finished)
    )
    assert ours == theirs


def _stored(folder: Path, training: TrainingKey) -> HeadOutputs:
    with safe_open(outputs_store(folder).path(training.name), framework="numpy") as file:
        names = json.loads(json.loads(file.metadata()["tametail"])["noted"])["names"]
        logits, posteriors = (
            dict(zip(names, file.get_tensor(kind), strict=True)) for kind in ("logits", "posteriors")
        )
        return HeadOutputs(logits, posteriors, {})


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_answer(finished: Path, image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # As if another process had begun it: two trainings are left, of which the one that is killed does the first.
    given = sorted(finished.glob("outputs/*.safetensors"))[2:]
    (out / "outputs").mkdir(parents=True)
    for path in (finished / "settings.json", finished / "splits.csv", *given):
        shutil.copy(path, out / path.relative_to(finished))
    words = ("recommend", image_folder, "-o", out, *OPTIONS, *FEW)
    process = fork_server().start("-m", "tametail", *words, directory=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while len(list(out.glob("outputs/*.safetensors"))) == len(given):
            assert process.is_running
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("outputs/*.safetensors")}
    assert not (out / "recommend.json").exists()
    code, _, errors = run("recommend", image_folder, "-o", out, *OPTIONS, *FEW)
    assert code == 0, errors
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    ours, theirs = (
        json.loads((folder / "recommend.json").read_text(encoding="utf-8"))["candidates"]
        for folder in (out, finished)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["--folds", "2"],
            2,
            "expected at least 3 folds, got 2: one to evaluate on, one to tune on and one to train on",
        ),
        (["--repeats", "0"], 2, "expected at least 1 repeat, got 0"),
        (["--folds", "9"], 3, "use at most"),
        (["--set", "trains=all", "--set", "optimizer.kind=adamw"], 2, "fine-tune with tametail compare"),
        (["--set", "head=normalised"], 2, "leave these fields unchanged"),
        (["--multi-label"], 3, "an image may have several labels"),
        (["--label-col", "diagnosis"], 3, "diagnosis"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    words: list[str], code: int, said: str, image_folder: Path, tmp_path: Path
) -> None:
    found = run("recommend", image_folder, "-o", tmp_path / "out", *OPTIONS, *FEW, *words)
    assert found[0] == code, found[2]
    assert said in " ".join(found[2].split())
    assert not list((tmp_path / "out").glob("readings/*"))


def test_one_class_is_nothing_to_decide(tmp_path: Path, image_folder: Path) -> None:
    only = tmp_path / "only" / "amber"
    shutil.copytree(image_folder / "images", only)
    code, _, errors = run("recommend", only.parent, "-o", tmp_path / "out", *OPTIONS, *FEW)
    assert code == 3
    assert "expected at least two classes" in errors


def test_another_folder_is_left_alone(image_folder: Path, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}", encoding="utf-8")
    code, _, errors = run("recommend", image_folder, "-o", tmp_path, *OPTIONS, *FEW)
    assert code == 2
    assert "expected an empty folder or a recommendation" in " ".join(errors.split())
    code, _, errors = run("recommend", image_folder, "-o", finished, *OPTIONS, *FEW, "--seed", "5")
    assert code == 2
    assert "holds another recommendation: its splits" in " ".join(errors.split())


def test_another_objective_is_another_recommendation_from_the_same_trainings(
    finished: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, errors = run(
        "recommend", image_folder, "-o", finished, *OPTIONS, *FEW, "--objective", "log_loss"
    )
    assert code == 2
    assert "its objective is balanced_accuracy, not log_loss; give another folder" in " ".join(errors.split())

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(trainings, "run_trials", refuse)
    out = tmp_path / "out"
    shutil.copytree(finished / "outputs", out / "outputs")
    code, output, errors = run(
        "recommend", image_folder, "-o", out, *OPTIONS, *FEW, "--objective", "log_loss"
    )
    assert code == 0, errors
    assert "Objective: log-loss, the lowest is the best" in output
    content = json.loads((out / "recommend.json").read_text(encoding="utf-8"))
    assert content["objective"] == json.loads((out / "settings.json").read_text())["objective"] == "log_loss"
    assert "objective" not in content["next_command"]
    assert content["best"] == content["candidates"][0]["name"]
    values = [one["log_loss"]["value"] for one in content["candidates"]]
    assert [round(value, 3) for value in values] == sorted(round(value, 3) for value in values)
    options: dict[str, Any] = {"folds": 3, "device": "cpu", **TINY, "epochs": 3, "batch_size": 32}
    again = tt.recommend(image_folder, out=out, objective="log_loss", **options)
    assert again.content["candidates"] == content["candidates"]
    with pytest.raises(tt.UsageError, match="its objective is log_loss, not macro_f1"):
        tt.recommend(image_folder, out=out, objective="macro_f1", **options)
    with pytest.raises(tt.UsageError, match="balanced_accuracy, macro_f1, log_loss"):
        tt.recommend(image_folder, out=out, objective="accuracy", **options)


def test_net_benefit_and_the_worst_group_are_objectives_too(
    finished: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(trainings, "run_trials", refuse)
    monkeypatch.setattr(objectives, "SMALL_SUBGROUP", 3)  # there are few images
    acting = ("net_benefit:crimson@0.3", "net benefit of acting on crimson at 0.3, the highest is the best")
    worst = ("worst_group:half", "worst-group balanced accuracy by half, the highest is the best")
    table = tt.read_images(image_folder)
    half = ["odd" if number % 2 else "even" for number in range(len(table.frame))]
    with_halves = dataclasses.replace(table, frame=table.frame.assign(half=half))
    options: dict[str, Any] = {"folds": 3, "device": "cpu", **TINY, "epochs": 3, "batch_size": 32}
    for place, (name, said) in enumerate((acting, worst)):
        out = tmp_path / f"out{place}"
        shutil.copytree(finished / "outputs", out / "outputs")
        found = tt.recommend(with_halves, out=out, objective=name, **options)
        assert found.content["objective"] == name
        assert f"Objective: {said}" in console_text(found.content)
        assert found.content["candidates"][0]["name"] == found.content["best"]
        assert found.content["candidates"][0][name]["n"] == found.content["images"]
        assert found.content["nested"][name]["value"] <= 1


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("net_benefit:purple@0.3", "one of the classes amber, blue, crimson, got 'purple'"),
        ("net_benefit:crimson@1.5", "a threshold above 0 and below 1"),
        ("worst_group:hospital", "a column of the image table (available: site"),
    ],
)
def test_an_objective_that_the_data_lack_is_refused_before_anything_is_trained(
    objective: str, message: str, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, _, errors = run("recommend", image_folder, "-o", out, *OPTIONS, *FEW, "--objective", objective)
    assert code == 2
    assert message in " ".join(errors.split())
    assert not (out / "settings.json").exists()


@pytest.mark.slow
def test_a_method_that_fails_is_left_out_and_named(
    finished: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(part: Any, training: TrainingKey, *_: Any) -> HeadOutputs:
        stored = _stored(finished, training)
        logits, posteriors = dict(stored.logits), dict(stored.posteriors)
        del logits["focal"], posteriors["focal"]
        return HeadOutputs(logits, posteriors, {"focal": "its loss is nan"})

    monkeypatch.setattr(trainings, "train_methods", failing)
    code, _, errors = run("recommend", image_folder, "-o", tmp_path / "out", *OPTIONS, *FEW)
    assert code == 0, errors
    assert "focal is left out because its training failed: its loss is nan" in " ".join(errors.split())
    content = json.loads((tmp_path / "out" / "recommend.json").read_text(encoding="utf-8"))
    assert content["failed"] == {"focal": "its loss is nan"}
    assert "focal: its loss is nan" in (tmp_path / "out" / "recommend.html").read_text(encoding="utf-8")


def test_outputs_of_other_settings_are_not_used(
    finished: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "outputs", out / "outputs")  # its settings are gone
    trained: list[TrainingKey] = []

    def noted(part: Any, training: TrainingKey, *_: Any) -> HeadOutputs:
        trained.append(training)
        return _stored(finished, training)

    monkeypatch.setattr(trainings, "train_methods", noted)
    code, _, errors = run("recommend", image_folder, "-o", out, *OPTIONS, *FEW, "--lr", "0.5")
    assert code == 0, errors
    assert len(trained) == 6
    assert (
        " ".join(errors.split()).count(
            "holds outputs of other settings, or damaged ones: they are computed again"
        )
        == 1
    )


def test_where_every_method_fails_it_is_said_what_to_do(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(part: Any, training: TrainingKey, methods: Any, *_: Any) -> HeadOutputs:
        return HeadOutputs({}, {}, dict.fromkeys(methods, "its loss is nan"))

    monkeypatch.setattr(trainings, "train_methods", failing)
    for _ in range(2):  # the second time by what was kept
        code, _, errors = run("recommend", image_folder, "-o", tmp_path / "out", *OPTIONS, *FEW)
        said = " ".join(errors.split())
        assert code == 1
        assert "it failed: its loss is nan; lower the learning rate with --lr, in another folder" in said
