"""File names of a run and of its checkpoints, and whether it is finished."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tametail.core.json_file import read_json
from tametail.core.removal import is_temporary

PREDICTIONS = "predictions.parquet"
TEST_PREDICTIONS = "test_predictions.parquet"
EVALUATION = "evaluation"  # number of the test-set evaluation in their metadata
WEIGHTS = "model.safetensors"
HEAD = "head.safetensors"  # made by strategies after training, in place of the weights
DESCRIPTION = "run.json"
UNLIKENESS = "unlikeness.safetensors"  # of a fine-tuned run; on frozen features of the study
HISTORY, TIMING = "history.csv", "timing.csv"
CHECKPOINT_FILE = re.compile(r"checkpoint-(\d{8,})-([0-9a-f]{32})\.safetensors")
_FILES = frozenset({PREDICTIONS, TEST_PREDICTIONS, WEIGHTS, HEAD, UNLIKENESS, DESCRIPTION, HISTORY, TIMING})


def is_run_file(name: str) -> bool:
    """Whether a file of this name in the folder of a run or of its checkpoints is written by this program."""
    return name in _FILES or CHECKPOINT_FILE.fullmatch(name) is not None or is_temporary(name)


def is_finished(directory: Path) -> bool:
    """Whether the run in this directory is finished: it is marked so, and has predictions and weights."""
    if _read(directory).get("status") != "finished":
        return False
    has_weights = any((directory / name).is_file() for name in (WEIGHTS, HEAD))
    return has_weights and (directory / PREDICTIONS).is_file()


def failure(directory: Path) -> str | None:
    """Why the run in this directory failed; None if it did not."""
    described = _read(directory)
    return str(described.get("message", "")) if described.get("status") == "failed" else None


def is_ended(directory: Path) -> bool:
    """Whether the run in this directory is finished or has failed."""
    return is_finished(directory) or failure(directory) is not None


def _read(directory: Path) -> dict[str, Any]:
    """The content of run.json; empty if it cannot be read."""
    try:
        described = read_json(directory / DESCRIPTION)
    except (OSError, ValueError):
        return {}
    return described if isinstance(described, dict) else {}


# A head has converged where the norm of its gradient is at most this times that at weights of 0.
CONVERGED_AT = 1e-5
