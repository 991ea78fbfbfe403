"""The files of a run, by name, and whether a run stands finished."""

from __future__ import annotations

import json
from pathlib import Path

PREDICTIONS = "predictions.parquet"
TEST_PREDICTIONS = "test_predictions.parquet"
WEIGHTS = "model.safetensors"
HEAD = "head.safetensors"  # what strategies after training make, in place of the weights
DESCRIPTION = "run.json"


def is_finished(directory: Path) -> bool:
    """Whether a run stands finished in this directory: it says so, and its predictions and its weights are there."""
    try:
        described = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(described, dict) or described.get("status") != "finished":
        return False
    has_weights = any((directory / name).is_file() for name in (WEIGHTS, HEAD))
    return has_weights and (directory / PREDICTIONS).is_file()
