"""The folder of a recommendation: what it is of, written once, and one file of readings for each training that is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tametail.core.atomic import atomic_path, make_folder
from tametail.core.errors import explain_save_error
from tametail.core.version import __version__
from tametail.recommend.nested import TrainingKey
from tametail.storage.identity import IDENTITY, SCHEMA, FolderKind, check_same, read_settings, write_settings

SETTINGS, READINGS = "settings.json", "readings"
RECOMMENDATION_FOLDER = FolderKind(
    "a recommendation", SETTINGS, "tametail recommend", frozenset({READINGS, "splits.csv"})
)


@dataclass(frozen=True, eq=False)
class HeadOutputs:
    """What the heads of one training say of the m images it left out, of C classes.

    Attributes:
        logits: by the method's text (m, C), the largest decides; of those that did not fail.
        failures: by the method's text, why it failed.
    """

    logits: Mapping[str, NDArray[np.float32]]
    failures: Mapping[str, str]


def create_or_extend(directory: Path, described: Mapping[str, Any]) -> str:
    """Write the settings of a recommendation, or check that they are the ones the folder was made with.

    Returns:
        A digest of the settings, which identifies outputs.

    Raises:
        UsageError: the folder is of other data, splits, settings or weights; the message names the first difference.
        DataError: the existing settings cannot be read.
        TametailError: the settings cannot be written.
    """
    wanted = json.loads(json.dumps({key: described[key] for key in IDENTITY}))
    if (directory / SETTINGS).is_file():
        present = read_settings(directory, RECOMMENDATION_FOLDER)
        check_same(f"{directory} holds another recommendation", present, wanted)
    else:
        write_settings(directory, RECOMMENDATION_FOLDER, {"schema": SCHEMA, "tametail": __version__} | wanted)
    return _digest(wanted)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def outputs_path(directory: Path, training: TrainingKey) -> Path:
    """Where a training's reading lies."""
    return directory / READINGS / f"{training.name}.npz"


def save_outputs(
    directory: Path, training: TrainingKey, reading: HeadOutputs, methods: Sequence[str], settings: str
) -> None:
    """Write what a training says, wholly or not at all.

    Args:
        methods: texts of all that were trained together.
        settings: what `create_or_extend` gives.

    Raises:
        TametailError: it cannot be written.
    """
    path = outputs_path(directory, training)
    names = list(reading.logits)
    failed = list(reading.failures.items())
    with explain_save_error(path):
        make_folder(path.parent)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(
                handle,
                made_with=np.array(_digest([settings, list(methods)])),
                names=np.array(names, dtype=np.str_),
                logits=np.array(list(reading.logits.values()), dtype=np.float32),
                failures=np.array(failed, dtype=np.str_).reshape(-1, 2),
            )


def load_outputs(
    directory: Path, training: TrainingKey, methods: Sequence[str], shape: tuple[int, int], settings: str
) -> HeadOutputs | None:
    """What a training said; None where it is yet to be done, its file is damaged, or of other methods or settings.

    Args:
        methods: texts.
        shape: (m, C) of each one's logits.
        settings: what `create_or_extend` gives.
    """
    path = outputs_path(directory, training)
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            if file["made_with"].item() != _digest([settings, list(methods)]):
                return None
            names, logits, failures = file["names"].tolist(), file["logits"], file["failures"].tolist()
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    reading = HeadOutputs(dict(zip(names, logits, strict=False)), dict(failures))
    whole = not names or logits.shape == (len(names), *shape)
    known = set(reading.logits) | set(reading.failures)
    return reading if whole and set(methods) == known else None
