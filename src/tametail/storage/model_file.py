"""model.json: what an exported model is, and the digests of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tametail.core.errors import DataError
from tametail.core.json_file import read_json
from tametail.storage.run_file import file_digest
from tametail.storage.schema import Count, Name, Number, Strict, Text, damage

MODEL_JSON = "model.json"
MODEL_SCHEMA = 1


class _Scores(Strict):
    groups: Count
    images: Count
    scores: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(max_length=100_000)]
    share: Annotated[list[float], Field(max_length=100_000)]


class _Likeness(Strict):
    images: Count
    groups: Count
    grey: Annotated[float, Field(ge=0, le=1)] | None
    reason: Text


class _Model(Strict):
    model_schema: Annotated[int, Field(alias="schema", ge=1)]
    tametail: Text
    name: Text
    synthetic: bool
    method: Name
    format: Literal["onnx", "torch"]
    class_names: Annotated[list[Name], Field(min_length=2, max_length=100_000)]
    class_counts: Annotated[list[Annotated[float, Field(ge=0)]], Field(max_length=100_000)]
    spec: dict[Text, Any]
    models: Annotated[int, Field(ge=1, le=100_000)]
    refitted: bool
    link: Text
    ceiling: Number
    calibration: dict[Text, Any]
    prediction_sets: Annotated[list[_Scores], Field(max_length=100_000)]
    label_shift: dict[Text, Any] | None = None
    coverage: Annotated[float, Field(gt=0, lt=1)] | None
    thresholds: Annotated[list[Number | None], Field(max_length=100_000)] | None
    bit_depth: Annotated[int, Field(ge=1, le=16)] | None = None
    slices: Annotated[str, Field(pattern=r"^(middle|all|every:[1-9]\d{0,3})$")] | None = None
    predict_by: Literal["image", "group", "group-max"]
    likeness: _Likeness
    files: Annotated[dict[Name, Text], Field(max_length=20)]

    @model_validator(mode="after")
    def _check_classes(self) -> _Model:
        classes = len(self.class_names)
        if len(set(self.class_names)) < classes:
            raise ValueError("class_names has a value twice")
        if len(self.class_counts) != classes or not sum(self.class_counts):
            raise ValueError("class_counts is not a count of each class")
        if self.thresholds is not None and len(self.thresholds) != classes:
            raise ValueError("thresholds is not one of each class")
        if self.prediction_sets and len(self.prediction_sets) != classes:
            raise ValueError("prediction_sets is not one of each class")
        return self


def read_model_file(directory: Path) -> dict[str, Any]:
    """Read the model.json of an exported model.

    Raises:
        DataError: it is absent, damaged or of a later version.
    """
    path = directory / MODEL_JSON
    try:
        content = read_json(path)
        if (
            isinstance(content, dict)
            and isinstance(content.get("schema"), int)
            and content["schema"] > MODEL_SCHEMA
        ):
            raise DataError(
                f"{path} is of version {content['schema']}, and this version of tametail reads {MODEL_SCHEMA}: install a newer one"
            )
        if found := damage(_Model, content):
            raise ValueError(found)
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected the description of an exported model at {path}, but it cannot be read: {error}; export the model again"
        ) from error
    described: dict[str, Any] = content
    return described


def model_json(content: Mapping[str, Any]) -> str:
    """The text of a model.json."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def intact_model(directory: Path, described: Mapping[str, Any], name: str) -> Path:
    """The path of a file of an exported model, after a check that it is the one that was exported.

    Raises:
        DataError: it is absent, or was changed or exchanged.
    """
    path = directory / name
    try:
        found = file_digest(path)
    except OSError as error:
        raise DataError(
            f"expected a file of an exported model at {path}, but it cannot be read: {error}"
        ) from error
    if found != described["files"].get(name):
        raise DataError(
            f"expected {path} as it was exported, but it was changed or exchanged since (its digest is not that in {MODEL_JSON}); "
            f"restore it from a copy, or export the model again"
        )
    return path
