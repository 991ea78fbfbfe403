"""Trackers, with stand-ins for the packages that they need."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from tametail.core.errors import UsageError
from tametail.training.trackers import check_trackers, flatten, open_trackers


class Board:
    """What a stand-in for a tracker's package received."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.scalars: list[tuple[str, float, int]] = []
        self.settings: dict[str, Any] = {}
        self.closed = 0
        self.fails = False


def install(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    """A stand-in for TensorBoard."""
    board = Board()

    class SummaryWriter:
        def __init__(self, directory: str) -> None:
            board.opened.append(directory)

        def add_hparams(self, values: dict[str, Any], metric_dict: dict[str, Any]) -> None:
            board.settings = values

        def add_scalar(self, name: str, value: float, global_step: int) -> None:
            if board.fails:
                raise OSError("no space left")
            board.scalars.append((name, value, global_step))

        def flush(self) -> None:
            pass

        def close(self) -> None:
            board.closed += 1

    import torch.utils

    install(monkeypatch, "tensorboard")
    install(monkeypatch, "torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    monkeypatch.setattr(torch.utils, "tensorboard", sys.modules["torch.utils.tensorboard"], raising=False)
    return board


def test_tensorboard_writes_below_the_studys_folder(board: Board, tmp_path: Path) -> None:
    settings = {"optimizer": {"lr": 0.1}, "seed": 0}
    trackers = open_trackers(["tensorboard"], tmp_path, "alpa[tau=1] seed 0/../fold 1", settings, warn=print)
    trackers.log({"loss": 0.5}, 3)
    trackers.close()
    trackers.close()
    assert board.opened == [str(tmp_path / "tensorboard" / "alpa[tau=1]_seed_0_.._fold_1")]
    assert board.scalars == [("loss", 0.5, 3)]
    assert board.settings == {"optimizer.lr": 0.1, "seed": 0}
    assert board.closed == 1


def test_a_tracker_that_fails_is_said_once_and_costs_nothing(board: Board, tmp_path: Path) -> None:
    said: list[str] = []
    trackers = open_trackers(["tensorboard"], tmp_path, "ce", {}, warn=said.append)
    board.fails = True
    for step in range(3):
        trackers.log({"loss": 0.5}, step)
    trackers.close()
    assert said == ["tensorboard stopped tracking this run (OSError: no space left)"]


def test_one_that_cannot_be_opened_leaves_the_others(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise PermissionError("no key")

    install(monkeypatch, "wandb", init=init)
    said: list[str] = []
    trackers = open_trackers(["wandb", "tensorboard"], tmp_path, "ce", {}, warn=said.append)
    trackers.log({"loss": 0.5}, 1)
    assert said == ["wandb stopped tracking this run (PermissionError: no key)"]
    assert board.scalars == [("loss", 0.5, 1)]


def test_wandb_is_told_the_study_and_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    logged: list[tuple[dict[str, float], int]] = []
    config: dict[str, Any] = {}
    run = types.SimpleNamespace(log=lambda values, step: logged.append((values, step)), finish=lambda: None)
    received = types.SimpleNamespace(update=lambda values, allow_val_change: config.update(values))
    install(monkeypatch, "wandb", init=lambda **given: asked.append(given) or run, config=received)
    trackers = open_trackers(["wandb"], tmp_path / "study", "ce seed 0", {"a": {"b": None}}, warn=pytest.fail)
    trackers.log({"loss": 0.5}, 7)
    trackers.close()
    assert asked == [{"project": "study", "name": "ce seed 0", "dir": str(tmp_path / "study")}]
    assert logged == [({"loss": 0.5}, 7)]
    assert config == {"a.b": "None"}


@pytest.mark.parametrize("server", [None, "http://tracking.invalid"])
def test_mlflow_writes_below_the_studys_folder_unless_a_server_is_named(
    server: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris: list[str] = []
    received: dict[str, Any] = {}

    def remember(what: str, answer: Any = None) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            received[what] = (given, named)
            return answer

        return call

    limits = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
    install(
        monkeypatch,
        "mlflow",
        set_tracking_uri=uris.append,
        search_experiments=remember("search", []),
        create_experiment=remember("experiment", "7"),
        start_run=remember("run", object()),
        log_params=remember("settings"),
        log_metrics=remember("values"),
        end_run=remember("end"),
        utils=types.SimpleNamespace(validation=limits),
    )
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    trackers = open_trackers(["mlflow"], tmp_path, "ce seed 0", {"lr": 0.1}, warn=pytest.fail)
    trackers.log({"loss": 0.5}, 2)
    trackers.close()
    assert uris == ([] if server else [f"sqlite:///{tmp_path / 'mlflow.db'}"])
    assert received["experiment"][1]["artifact_location"] == (
        None if server else (tmp_path / "mlartifacts").as_uri()
    )
    assert received["run"][1]["run_name"] == "ce seed 0"
    assert received["settings"] == (({"lr": 0.1},), {})
    assert received["values"] == (({"loss": 0.5},), {"step": 2})
    assert "end" in received


def test_unknown_and_missing_trackers_are_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers([])
    with pytest.raises(UsageError, match=r"got 'tensorbord'; did you mean tensorboard\?"):
        check_trackers(["tensorbord"])
    monkeypatch.setattr("tametail.training.trackers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'tametail\[loggers\]'"):
        check_trackers(["mlflow"])


def test_settings_become_one_level() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": (0.7, 1.0), "f": True}
    assert flatten(nested) == {"a.b.c": 1, "a.d": "None", "e": "(0.7, 1.0)", "f": True}
