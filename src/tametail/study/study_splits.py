"""The splits of a study, as its folder has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tametail.data import Splits, load_splits

SPLITS_FILE = "splits.csv"


def study_splits(directory: Path, described: Mapping[str, Any]) -> Splits:
    """Read the splits of a study.

    Args:
        described: the content of study.json.

    Raises:
        DataError: they are absent, or not those that the study was started with.
    """
    split = {key: described["splits"][key] for key in ("folds", "seed", "given", "fingerprint")}
    return load_splits(directory / SPLITS_FILE, **split, redrawn=described.get("redrawn_folds", ()))
