"""What study.json must hold: every command that reads a study checks it first, so that damage is named, with its place."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tametail.core.invalid import first_error

Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=10_000)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class _Strict(BaseModel):
    """Values of exactly these types; other fields are allowed, as plug-ins and later versions may add them."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Unreadable(_Strict):
    image: Text
    error: Text


class _Table(_Strict):
    fingerprint: Text
    content: Text
    images: Count
    groups: Count
    unreadable: list[_Unreadable] = []
    bit_depth: Annotated[int, Field(ge=1, le=16)] | None = None


class _Splits(_Strict):
    folds: Annotated[int, Field(ge=2, le=10_000)]
    seed: Seed
    given: bool
    fingerprint: Text


class _Reading(_Strict):
    classes: Text
    groups: Text
    split: Text
    left_out: list[Text]
    grey: Text = ""
    notes: list[Text] = []


class _Finding(_Strict):
    code: Text
    severity: Text
    message: Text
    advice: Text = ""
    affected: Count | None = None


class _Spec(_Strict):
    """The backbone; `tametail.models.backbones.BackboneSpec.from_description` checks the rest. Empty in a copy for others."""

    canvas: Annotated[int, Field(ge=1, le=100_000)] | None = None


class OtherSplits(_Strict):
    splits: Count
    seeds: list[Seed]
    evaluated: Count
    same: bool


class _Study(_Strict):
    name: Text
    synthetic: bool = False
    multi_label: bool = False
    table: _Table
    splits: _Splits
    class_names: Annotated[list[Name], Field(min_length=2, max_length=100_000)]
    class_order: list[Name] | None = None
    methods: Annotated[list[Name], Field(min_length=1, max_length=100_000)]
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=10_000)]
    run_folds: Annotated[list[Count], Field(max_length=10_000)] | None = None
    redrawn_folds: list[Text] = []
    recipe: dict[str, Any]
    backbone: Text
    spec: _Spec
    shared: bool = False
    weights: Text
    weights_digest: Text
    image_size: Annotated[int, Field(ge=1, le=100_000)]
    canvas: Annotated[int, Field(ge=1, le=100_000)] | None = None
    features: Text | None = None
    threads: Annotated[int, Field(ge=1, le=100_000)]
    reading: _Reading | None = None
    findings: list[_Finding] = []
    packages: list[Text] = []
    other_splits: OtherSplits | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_lists(self) -> _Study:
        for name in ("class_names", "methods", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice")
        if self.class_order and sorted(self.class_order) != sorted(self.class_names):
            raise ValueError("class_order is not every class once")
        if self.run_folds and max(self.run_folds) >= self.splits.folds:
            raise ValueError(f"run_folds has a fold of {max(self.run_folds)}, of {self.splits.folds}")
        if self.spec.canvas is None and not self.shared:
            raise ValueError("spec has no canvas")
        return self


def damage(content: dict[str, Any]) -> str:
    """What is wrong in the content of a study.json: the first field, and what was expected of it; empty if nothing is."""
    try:
        _Study.model_validate(content)
    except ValidationError as error:
        return first_error(error)
    return ""
