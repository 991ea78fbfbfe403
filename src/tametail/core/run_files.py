"""File names of a run, and whether it is finished."""

from __future__ import annotations

import json
from pathlib import Path

PREDICTIONS = "predictions.parquet"
TEST_PREDICTIONS = "test_predictions.parquet"
WEIGHTS = "model.safetensors"
HEAD = "head.safetensors"  # made by strategies after training, in place of the weights
DESCRIPTION = "run.json"


def is_finished(directory: Path) -> bool:
    """Whether the run in this directory is finished: it is marked so, and has predictions and weights."""
    try:
        described = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(described, dict) or described.get("status") != "finished":
        return False
    has_weights = any((directory / name).is_file() for name in (WEIGHTS, HEAD))
    return has_weights and (directory / PREDICTIONS).is_file()


# A head has converged where the norm of its gradient is at most this times that at weights of 0.
CONVERGED_AT = 1e-5
