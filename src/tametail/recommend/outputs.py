"""The folder of a recommendation: its settings, written once, and one file of outputs for each finished training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tametail.core.errors import DataError
from tametail.core.version import __version__
from tametail.storage.identity import (
    IDENTITY,
    SCHEMA,
    FolderKind,
    check_same,
    digest_of_identity,
    read_settings,
    write_settings,
)
from tametail.storage.output_store import OutputStore
from tametail.storage.schema import Name, Strict, Text, damage
from tametail.storage.study_file import INPUT_FILES
from tametail.training.run import TrainingKey

RECOMMEND_JSON, RECOMMEND_MD, RECOMMEND_HTML = "recommend.json", "recommend.md", "recommend.html"
SETTINGS, OUTPUTS, OBJECTIVE, REPEATS = "settings.json", "outputs", "objective", "repeats"
RECOMMENDATION_FOLDER = FolderKind(
    "a recommendation", SETTINGS, "tametail recommend", frozenset({OUTPUTS, *INPUT_FILES})
)


@dataclass(frozen=True, eq=False)
class HeadOutputs:
    """Outputs of the heads of one training for the m images it left out, of C classes.

    Attributes:
        logits: (m, C) by the method's text, of the methods that did not fail; the largest decides.
        posteriors: (m, C) of the same methods, probabilities by the loss's own link; see `Predictions.posterior`.
        failures: by the method's text, why it failed.
    """

    logits: Mapping[str, NDArray[np.float32]]
    posteriors: Mapping[str, NDArray[np.float32]]
    failures: Mapping[str, str]


class _Settings(Strict):
    """settings.json; what is compared with the wanted settings needs no further check."""

    objective: Name


class _Finished(Strict):
    """recommend.json, as far as it is read again."""

    name: Text
    recommended: Name
    methods_to_compare: Annotated[list[Name], Field(min_length=1, max_length=10_000)]
    best: Name
    answer: Annotated[list[Text], Field(min_length=1, max_length=1_000)]
    next_command: Text
    candidates: Annotated[list[dict[Text, Any]], Field(min_length=1, max_length=10_000)]


def _refuse_damage(
    directory: Path, kind: FolderKind, model: type[Strict], content: Mapping[str, Any]
) -> None:
    if found := damage(model, content):
        raise DataError(
            f"expected {kind.name} at {directory}, but its {kind.file} is damaged ({found}); restore it from a copy, or run "
            f"{kind.command} again in another folder"
        )


def read_recommendation(directory: Path) -> dict[str, Any]:
    """The content of recommend.json.

    Raises:
        DataError: it is absent, unreadable or of another schema.
    """
    finished = replace(RECOMMENDATION_FOLDER, name="a finished recommendation", file=RECOMMEND_JSON)
    content = read_settings(directory, finished)
    _refuse_damage(directory, finished, _Finished, content)
    return content


def read_unfinished(directory: Path) -> dict[str, Any]:
    """The settings of a recommendation, finished or not.

    Raises:
        DataError: they are absent or damaged.
    """
    content = read_settings(directory, RECOMMENDATION_FOLDER)
    _refuse_damage(directory, RECOMMENDATION_FOLDER, _Settings, content)
    return content


def settings_digest(described: Mapping[str, Any]) -> str:
    """The digest that outputs are recognised by."""
    return digest_of_identity(described)


def create_or_extend(directory: Path, described: Mapping[str, Any], objective: str) -> str:
    """Write the settings of a recommendation, or check that they are the ones the folder was made with.

    Args:
        described: the settings of the trainings.
        objective: what is chosen for; no training depends on it.

    Returns:
        A digest of the settings of the trainings, which identifies outputs.

    Raises:
        UsageError: the folder is of other data, splits, settings, weights or another objective; the message names the first
            difference.
        DataError: the existing settings cannot be read.
        TametailError: the settings cannot be written.
    """
    wanted = json.loads(json.dumps({**described, OBJECTIVE: objective}))
    if (directory / SETTINGS).is_file():
        present = read_unfinished(directory)
        check_same(f"{directory} holds another recommendation", present, wanted, (*IDENTITY, OBJECTIVE))
        wanted = present | {REPEATS: wanted.get(REPEATS)}
    write_settings(directory, RECOMMENDATION_FOLDER, {"schema": SCHEMA, "tametail": __version__} | wanted)
    return settings_digest(wanted)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def outputs_store(directory: Path) -> OutputStore:
    """The outputs of the trainings of a recommendation."""
    return OutputStore(directory / OUTPUTS)


def save_outputs(
    directory: Path, training: TrainingKey, outputs: HeadOutputs, methods: Sequence[str], settings: str
) -> None:
    """Save the outputs of a training atomically.

    Args:
        methods: texts of all methods that were trained together.
        settings: digest from `create_or_extend`.

    Raises:
        TametailError: it cannot be written.
    """
    names = list(outputs.logits)
    arrays = {
        kind: np.array([of_kind[name] for name in names], dtype=np.float32)
        for kind, of_kind in (("logits", outputs.logits), ("posteriors", outputs.posteriors))
    }
    noted = {"names": names, "failures": dict(outputs.failures)}
    outputs_store(directory).save(training.name, _digest([settings, list(methods)]), arrays, noted)


def load_outputs(
    directory: Path, training: TrainingKey, methods: Sequence[str], shape: tuple[int, int], settings: str
) -> HeadOutputs | None:
    """Load the outputs of a training; None if there are none, or they are damaged or of other methods or settings.

    Args:
        methods: texts of the methods.
        shape: (m, C) of each one's logits.
        settings: digest from `create_or_extend`.
    """
    found = outputs_store(directory).load(training.name, _digest([settings, list(methods)]))
    if found is None:
        return None
    arrays, noted = found
    names, failures = noted["names"], noted["failures"]
    if sorted([*names, *failures]) != sorted(methods):
        return None
    if names and any(values.shape != (len(names), *shape) for values in arrays.values()):
        return None
    of_logits, of_posteriors = (
        dict(zip(names, arrays[key], strict=False)) for key in ("logits", "posteriors")
    )
    return HeadOutputs(of_logits, of_posteriors, failures)
