"""A study has the same files, whichever engine trains it, and whatever is killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tametail as tt
from cli.test_app import run
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.storage.study_file import read_test_set_evaluations
from tametail.study import worker
from tametail.study.study import Study, compare, evaluate_test_set
from tametail.training import feature_blocks, training_data
from tametail.training.inference import predict_logits


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


def again(images: Path, out: Path, methods: str = "ce,ce+la,ldam", **options: Any) -> Study:
    settings: dict[str, Any] = TINY | {"epochs": 2, "folds": 2, "device": "cpu"} | options
    return compare(images, methods, out=out, **settings)


def files(study: Path) -> dict[str, bytes]:
    """All visible files, without times."""
    found = {}
    for path in sorted(study.rglob("*")):
        name = path.relative_to(study)
        if (
            path.is_file()
            and path.name != "timing.csv"
            and not any(part.startswith(".") for part in name.parts)
        ):
            content = path.read_bytes()
            if path.suffix == ".json":
                content = re.sub(rb'"seconds": [\d.e-]+', b"", content)
            if path.suffix == ".html":
                content = re.sub(rb"[\d.,]+ (s|min)\b", b"", content)
            found[str(name)] = content
    return found


@pytest.mark.slow
def test_local_processes_give_the_same_files(image_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"recipe": "quick", "batch_size": 32, "threads": 1}  # heads: in the next tests
    again(image_folder, tmp_path / "one", **settings)
    study = again(image_folder, tmp_path / "several", engine="local", jobs=2, **settings)
    assert study.failed == ()
    assert files(tmp_path / "several") == files(tmp_path / "one")
    assert not (tmp_path / "several" / ".work").exists()


class Killer(Console):
    """Kills a worker as soon as the first unit is done."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.killed = 0

    def say(self, text: str) -> None:
        import psutil

        if "done" in text and not self.killed:
            workers = [
                child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())
            ]
            os.kill(workers[0].pid, signal.SIGKILL)
            self.killed = workers[0].pid


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(image_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "repeats": 2,
        "lr": 1e30,
    }  # for ldam, which is trained step by step, and fails
    alone = again(image_folder, tmp_path / "one", "ce,ce+la,ldam,ldam+crt", **settings)
    assert any("the run that it starts from has failed" in message for message in alone.failed)
    killer = Killer()
    several = again(
        image_folder,
        tmp_path / "several",
        "ce,ce+la,ldam,ldam+crt",
        **settings,
        engine="local",
        jobs=2,
        console=killer,
    )
    assert killer.killed
    assert sorted(several.failed) == sorted(alone.failed)
    assert files(tmp_path / "several") == files(tmp_path / "one")


def test_a_plan_is_done_by_any_scheduler(image_folder: Path, tmp_path: Path) -> None:
    again(image_folder, tmp_path / "one")
    out = tmp_path / "planned"
    again(image_folder, out, engine="plan")
    assert not list(out.glob("runs/*"))
    assert tt.status(out) == {"Units": "4 waiting"}
    code, output, errors = run("work", out, "--unit", "0,3", "--device", "cpu")
    assert (code, output) == (0, "2 units of the study are not done.\n"), errors
    assert tt.status(out) == {"Units": "2 finished, 2 waiting"}
    code, output, _ = run("work", out, "--device", "cpu", "--quiet")
    assert (code, output) == (0, "All units of the study are done.\n")
    code, output, _ = run("status", out)
    assert (code, output) == (0, "Units  4 finished\n")
    again(image_folder, out)
    assert files(out) == files(tmp_path / "one")


def test_the_thread_count_is_kept(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce", recipe="quick", batch_size=32, threads=3, engine="plan")
    assert Study(out).settings["threads"] == 3
    with pytest.raises(UsageError, match=r"expected --threads 3.*got 2"):
        again(image_folder, out, "ce", recipe="quick", batch_size=32, threads=2)
    again(image_folder, out, "alpa", recipe="quick", batch_size=32, engine="plan")
    assert Study(out).settings["threads"] == 3
    again(image_folder, tmp_path / "several", "ce", recipe="quick", batch_size=32, engine="plan", jobs=2)
    assert Study(tmp_path / "several").settings["threads"] == 1


def test_workers_without_a_common_cache_compute_each_block_of_features_once(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def watched(model: object, array: object, rows: Any, *rest: object, **named: Any) -> object:
        computed.append(int(rows[0]))
        return predict_logits(model, array, rows, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(feature_blocks, "BLOCK_ROWS", 16)
    monkeypatch.setattr(training_data, "predict_logits", watched)
    out = tmp_path / "study"
    for node in ("a", "b", "c"):
        monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / node))
        worker._contexts.clear()
        if node == "a":
            again(image_folder, out, "ce", engine="plan")
            assert not computed, "the coordinator computes none"
        else:
            assert tt.work(out, unit=[0 if node == "b" else 1], device="cpu") == (1 if node == "b" else 0)
    assert len(computed) == len(set(computed)) == len(list((out / ".work").glob("*.safetensors"))) > 3
    again(image_folder, out, "ce")
    assert not (out / ".work").exists(), "blocks are not kept longer than they are needed"
    written = [path.read_bytes() for path in sorted(tmp_path.glob("[bc]/features/*.npy"))]
    assert len(written) == 2
    assert written[0] == written[1]
    again(image_folder, tmp_path / "one", "ce")
    assert files(out) == files(tmp_path / "one")


def copies(study: Path, *names: str) -> list[Path]:
    return [Path(shutil.copytree(study, study.parent / name / "study")) for name in names]


@pytest.mark.slow
def test_the_test_set_is_predicted_by_workers(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(image_folder, tmp_path / "study", "ce,ce+la,ldam", repeats=2)
    one, local, planned = copies(tmp_path / "study", "one", "local", "planned")
    with pytest.raises(UsageError, match="begins and records one"):
        tt.work(planned, test_set=True, device="cpu")

    def own_cache(name: str) -> None:  # of splits that were evaluated
        monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "caches" / name))

    own_cache("one")
    evaluate_test_set(one, device="cpu")
    expected = without_time(files(one))
    own_cache("local")
    evaluate_test_set(local, device="cpu", engine="local", jobs=2)
    assert without_time(files(local)) == expected
    assert not (local / ".work").exists()
    own_cache("planned")
    evaluate_test_set(planned, device="cpu", engine="plan")
    assert not list(planned.glob("runs/*/*/test_predictions.parquet"))
    code, output, errors = run("work", planned, "--test-set", "--unit", "0,2", "--device", "cpu")
    assert (code, output) == (0, "6 units of the study are not done.\n"), errors
    assert len(list(planned.glob("runs/*/*/test_predictions.parquet"))) == 4
    assert tt.work(planned, test_set=True, device="cpu") == 0
    monkeypatch.setattr("tametail.study.study.predict_test", None)  # nothing is left to do
    evaluate_test_set(planned, device="cpu")
    assert without_time(files(planned)) == expected
    assert [entry["finished"] for entry in read_test_set_evaluations(planned)] == [True]


def without_time(found: dict[str, bytes]) -> dict[str, bytes]:
    """Without the moments at which an evaluation began and ended."""
    return {
        name: re.sub(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:[\d.]+)?(\+00:00| UTC)?", b"", content)
        for name, content in found.items()
    }


def test_predictions_of_an_evaluation_that_was_killed_while_they_were_recorded_are_made_again(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce")
    evaluate_test_set(out, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr("tametail.training.run.write_run_file", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate_test_set(out, device="cpu")
    evaluate_test_set(out, device="cpu")
    tt.report(out)  # which refuses files that are not those of the run
    assert [entry["finished"] for entry in read_test_set_evaluations(out)] == [True, True]


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_workers_leave_is_predicted_here_and_errors_are_named(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    again(image_folder, out, "ce")
    weights = [out / f"runs/ce/seed0-fold{fold}/model.safetensors" for fold in (0, 1)]
    content = weights[1].read_bytes()
    weights[1].write_bytes(weights[0].read_bytes())
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tametail.study.study.run_by", lambda *_, **__: None)  # all workers are lost
    with pytest.raises(DataError, match=r"seed0-fold1.model\.safetensors"):
        evaluate_test_set(out, device="cpu", jobs=2)
    with pytest.raises(DataError, match=r"seed0-fold1.model\.safetensors"):
        tt.work(out, unit=[1], test_set=True, device="cpu")
    assert (out / "runs/ce/seed0-fold0/test_predictions.parquet").is_file()
    weights[1].write_bytes(content)
    evaluate_test_set(out, device="cpu", jobs=2)
    assert [entry["finished"] for entry in read_test_set_evaluations(out)] == [True]
