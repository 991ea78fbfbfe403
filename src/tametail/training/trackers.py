"""Experiment tracking with TensorBoard, MLflow and Weights & Biases, through accelerate's trackers.

TensorBoard and MLflow write to the study's folder (MLflow to the server in MLFLOW_TRACKING_URI, if set), and wandb follows
its own settings (WANDB_MODE, WANDB_API_KEY).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tametail.core.errors import UsageError
from tametail.core.registry import nearest

TRACKERS = ("tensorboard", "mlflow", "wandb")
Value = str | int | float | bool


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers are available, before any long work.

    Raises:
        UsageError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(
                f"expected --track with names of {', '.join(TRACKERS)}, got {name!r}; {nearest(name, TRACKERS)}"
            )
        if find_spec(name) is None:
            raise UsageError(
                f"--track {name} needs a package that is not installed: pip install 'tametail[loggers]'"
            )


class Trackers:
    """The trackers of one run. One that fails is dropped with a warning, and training continues without it."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._opened: dict[str, Any] = {}

    def open(self, name: str, make: Callable[[], Any], settings: Mapping[str, Value]) -> None:
        """Start a tracker and log the run's settings."""

        def start() -> None:
            tracker = make()
            tracker.start()
            tracker.store_init_configuration(dict(settings))
            self._opened[name] = tracker

        self._try(name, start)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step to all trackers."""
        for name, tracker in list(self._opened.items()):
            self._try(name, lambda: tracker.log(dict(values), step=step))  # noqa: B023 - called at once

    def close(self) -> None:
        """Finish all trackers; may be called repeatedly."""
        while self._opened:
            name, tracker = self._opened.popitem()
            self._try(name, tracker.finish)

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - servers and their clients fail in many ways; none may cost a run
            self._opened.pop(name, None)
            self._warn(f"{name} stopped tracking this run ({type(error).__name__}: {error})")


def open_trackers(
    names: Sequence[str],
    directory: Path,
    run_title: str,
    settings: Mapping[str, Any],
    *,
    warn: Callable[[str], None],
) -> Trackers:
    """Start the trackers of a run; call it only in the main process.

    Args:
        names: of `TRACKERS`.
        directory: the study's folder.
        run_title: name of the run.
        settings: of the run, possibly nested; logged once.
        warn: receives a warning for each tracker that fails, now or later.

    Raises:
        UsageError: an unknown name, or a package that is not installed.
    """
    check_trackers(names)
    trackers = Trackers(warn)
    for name in dict.fromkeys(names):
        trackers.open(name, partial(_make, name, directory, run_title), flatten(settings))
    return trackers


def _make(name: str, directory: Path, title: str) -> Any:
    from accelerate import tracking

    if name == "tensorboard":
        return tracking.TensorBoardTracker(re.sub(r"[^\w.,=\[\]+-]+", "_", title), directory / "tensorboard")
    if name == "wandb":
        directory.mkdir(parents=True, exist_ok=True)
        return tracking.WandBTracker(directory.resolve().name, name=title, dir=str(directory))
    import mlflow

    folder = directory.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return tracking.MLflowTracker(folder.name, run_name=title)
    # MLflow no longer supports plain files as a store.
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    return tracking.MLflowTracker(folder.name, (folder / "mlartifacts").as_uri(), run_name=title)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """Flatten nested settings: {"optimizer": {"lr": 1}} → {"optimizer.lr": 1}; other values become text."""
    flat: dict[str, Value] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, Value) else str(value)
    return flat
