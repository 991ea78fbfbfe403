"""What study.json and search.json must hold: every command that reads them checks them first, so that damage is named, with its place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tametail.storage.schema import Count, Interval, Name, Number, Seed, Share, Strict, Text, damage


class _Unreadable(Strict):
    image: Text
    error: Text


class _Table(Strict):
    fingerprint: Text
    content: Text
    images: Count
    groups: Count
    unreadable: list[_Unreadable]
    bit_depth: Annotated[int, Field(ge=1, le=16)] | None = None
    slices: Annotated[str, Field(pattern=r"^(middle|all|every:[1-9]\d{0,3})$")] | None = None


class _Splits(Strict):
    folds: Annotated[int, Field(ge=2, le=10_000)]
    seed: Seed
    given: bool
    fingerprint: Text


class _Reading(Strict):
    classes: Text
    groups: Text
    split: Text
    left_out: list[Text]
    grey: Text = ""
    notes: list[Text] = []


class _Finding(Strict):
    code: Text
    severity: Text
    message: Text
    advice: Text
    affected: Count | None = None


class _Spec(Strict):
    """The backbone; `tametail.models.backbones.BackboneSpec.from_description` checks the rest. Empty in a copy for others."""

    canvas: Annotated[int, Field(ge=1, le=100_000)] | None = None


class OtherSplits(Strict):
    splits: Count
    seeds: list[Seed]
    evaluated: Count
    same: bool


class _Recipe(Strict):
    """`tametail.training.recipe.Recipe` checks the rest where it is used to train."""

    name: Text = ""
    optimizer: dict[Text, Any] = {}


class _Described(Strict):
    """Data, splits and settings of all trainings."""

    tametail: Text
    name: Text
    synthetic: bool
    multi_label: bool = False
    grey: Share | None = None
    table: _Table
    splits: _Splits
    class_names: Annotated[list[Name], Field(min_length=2, max_length=100_000)]
    class_order: list[Name] | None = None
    redrawn_folds: Annotated[list[Text], Field(max_length=10_000)] = []
    recipe: _Recipe
    backbone: Text
    spec: _Spec
    weights: Text
    weights_digest: Text
    image_size: Annotated[int, Field(ge=1, le=100_000)]
    canvas: Annotated[int, Field(ge=1, le=100_000)] | None = None
    features: Text | None
    reading: _Reading | None = None
    findings: list[_Finding] = []
    options: dict[Text, Any] = {}

    @model_validator(mode="after")
    def _check_classes(self) -> _Described:
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("class_names has a value twice")
        if self.class_order and sorted(self.class_order) != sorted(self.class_names):
            raise ValueError("class_order is not every class once")
        return self


class _TunedMethod(Strict):
    searched: Text
    trials: Count
    metric: Text
    searched_recipe: Annotated[dict[Text, float], Field(max_length=100)] = {}
    score: Number
    nested: Interval
    nested_balanced_accuracy: Interval | None = None
    nested_mean_average_precision: Interval | None = None

    @model_validator(mode="after")
    def _check_nested(self) -> _TunedMethod:
        if (self.nested_balanced_accuracy is None) == (self.nested_mean_average_precision is None):
            raise ValueError("there is not one of nested_balanced_accuracy and nested_mean_average_precision")
        return self


class _Study(_Described):
    methods: Annotated[list[Name], Field(min_length=1, max_length=100_000)]
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=10_000)]
    run_folds: Annotated[list[Count], Field(max_length=10_000)] | None = None
    threads: Annotated[int, Field(ge=1, le=100_000)]
    shared: bool = False
    packages: list[Text] = []
    other_splits: OtherSplits | None = None
    tuned: Annotated[dict[Name, _TunedMethod], Field(max_length=100_000)] = {}

    @model_validator(mode="after")
    def _check_lists(self) -> _Study:
        for name in ("methods", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice")
        if self.run_folds and max(self.run_folds) >= self.splits.folds:
            raise ValueError(f"run_folds has a fold of {max(self.run_folds)}, of {self.splits.folds}")
        if self.spec.canvas is None and not self.shared:
            raise ValueError("spec has no canvas")
        return self


class _SearchSettings(Strict):
    method: Name
    space: Annotated[list[Name], Field(min_length=1, max_length=100)]
    class_order: list[Name]
    sampler: Literal["random", "tpe"]
    halving: bool
    metric: Literal[
        "balanced_accuracy",
        "macro_f1",
        "accuracy",
        "mcc",
        "kappa",
        "off_by_one_accuracy",
        "mean_average_precision",
        "macro_auroc",
    ]
    seeds: Annotated[int, Field(ge=1, le=10_000)]
    seed: Seed
    trials: Annotated[int, Field(ge=1, le=10_000_000)]


class _Selected(Strict):
    method: Name
    values: Annotated[dict[Name, Text], Field(max_length=100)]
    recipe: Annotated[dict[Name, float], Field(max_length=100)]
    score: Number | None
    n: Count


class _SelectedByFold(_Selected):
    fold: Count
    default_score: Number | None
    inner_score: Number | None
    inner_n: Count


class _Comparison(Strict):
    tuned: Interval
    default: Interval
    difference: Interval
    p: Share | None
    verdict: Text
    in_words: Text


class _Nested(Strict):
    tuned: Interval
    default: Interval
    balanced_accuracy: _Comparison | None = None
    mean_average_precision: _Comparison | None = None
    n: Count
    groups: Count


class _Values(Strict):
    best: Text
    default: Text
    folds: Annotated[list[Text], Field(min_length=1, max_length=10_000)]
    indistinguishable: Annotated[list[Text], Field(min_length=1, max_length=10_000)]


class _States(Strict):
    complete: Count
    pruned: Count
    failed: Count


class _SearchResult(Strict):
    best: _Selected
    nested: _Nested
    optimism: Number
    folds: Annotated[list[_SelectedByFold], Field(max_length=10_000)]
    values: Annotated[dict[Name, _Values], Field(min_length=1, max_length=100)]
    indistinguishable: Count
    trials: _States
    failures: Annotated[list[Text], Field(max_length=100)]
    importance: Annotated[dict[Name, Share], Field(max_length=100)] | None
    importance_note: Text
    trainings: Count
    seconds: Annotated[float, Field(ge=0)]


class _Search(_Described):
    search: _SearchSettings
    result: _SearchResult | None = None

    @model_validator(mode="after")
    def _check_dimensions(self) -> _Search:
        if "lr" not in self.recipe.optimizer:
            raise ValueError("recipe.optimizer has no lr")
        names = [text.partition("=")[0] for text in self.search.space]
        found = self.result
        tested = "mean_average_precision" if self.multi_label else "balanced_accuracy"
        if found and getattr(found.nested, tested) is None:
            raise ValueError(f"result.nested has no {tested}")
        for values in (found.values, found.best.values) if found else ():
            if set(values) != set(names):
                raise ValueError(f"result has values of {', '.join(values)}, not of {', '.join(names)}")
        return self


def damage_of_study(content: dict[str, Any]) -> str:
    """What is wrong in the content of a study.json; empty if nothing is."""
    return damage(_Study, content)


def damage_of_search(content: dict[str, Any]) -> str:
    """What is wrong in the content of a search.json; empty if nothing is."""
    return damage(_Search, content)
