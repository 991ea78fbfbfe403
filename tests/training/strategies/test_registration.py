"""Strategies of other packages: one class each, with one or two of the three hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fixtures.strategy_task import COUNTS, draw, fitted, trained_head
from tametail.losses import Loss
from tametail.training.recipe import load_recipe
from tametail.training.strategies import (
    BalancedDecision,
    DecisionRule,
    PriorAdjustedDecision,
    Strategy,
    list_strategies,
    parse_method,
    register_strategy,
    strategy_summary,
)
from tametail.training.strategies.strategy import STRATEGIES


@dataclass(frozen=True)
class WeakMixup(Strategy):
    """Mixup with weights close to 0 and 1."""

    name = "weakmix"
    source = "Doe, 2027"
    alpha: float = 0.1

    def change_recipe(self) -> Mapping[str, Any]:
        return {"mixing.kind": "mixup", "mixing.alpha": self.alpha}


class ZeroBias(Strategy):
    """Sets the biases of the head to zero."""

    name = "a_zero_bias"
    source = "Doe, 2027"

    def fit_head(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        assert isinstance(head, nn.Linear)
        nn.init.zeros_(head.bias)
        return head


@dataclass(frozen=True)
class FirstClass(Strategy):
    """Adds a constant to the score of the first class."""

    name = "first_class"
    source = "Doe, 2027"
    shift: int = 100

    def decision_rule(self, inner: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        shift = torch.zeros(len(class_counts), dtype=torch.float64)
        shift[0] = -self.shift
        return PriorAdjustedDecision(inner, shift)


class SampleAndDecide(FirstClass):
    """Class-balanced sampling with a decision of its own."""

    name = "sample_and_decide"

    def change_recipe(self) -> Mapping[str, Any]:
        return {"sampler": "balanced"}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    toys = (FirstClass, WeakMixup, ZeroBias, SampleAndDecide)
    for toy in toys:
        register_strategy(toy)
    yield
    for toy in toys:
        STRATEGIES.unregister(toy.name)


def test_they_are_listed_in_the_group_of_their_hook() -> None:
    names = list_strategies()
    expected = ["normalised", "sample_and_decide", "weakmix", "taunorm"]
    assert names[names.index("normalised") : names.index("taunorm") + 1] == expected
    assert names[-4:] == ["ncm", "a_zero_bias", "la", "first_class"]
    assert strategy_summary("weakmix") == "Mixup with weights close to 0 and 1 (Doe, 2027)"


def test_text_has_one_form_and_one_slug() -> None:
    method = parse_method("ce+first_class[shift=7]+la+a_zero_bias+weakmix[alpha=0.5]+drw")
    assert method.text == "ce+drw+weakmix[alpha=0.5]+a_zero_bias+la+first_class[shift=7]"
    assert method.slug == "ce+drw+weakmix--alpha-0.5+a_zero_bias+la+first_class--shift-7"
    assert parse_method(method.text) == method
    assert method.base.text == "ce+drw+weakmix[alpha=0.5]"


def test_a_change_of_the_recipe_has_parameters_and_conflicts_like_a_built_in_one() -> None:
    recipe = load_recipe("quick")
    mixing = parse_method("ce+weakmix[alpha=0.5]").configure(recipe).mixing
    assert (mixing.kind, mixing.alpha) == ("mixup", 0.5)
    with pytest.raises(ValueError, match=r"sets the recipe's mixing\.kind, got mixup and weakmix"):
        parse_method("ce+weakmix+mixup")


def test_a_fitted_head_decides_for_equal_classes() -> None:
    method, features = parse_method("ce+a_zero_bias"), draw(COUNTS, 2)[0]
    assert method.single_label
    base, head = trained_head(method, COUNTS, 1), fitted("ce+a_zero_bias")
    torch.testing.assert_close(head(features), features @ base.weight.T)  # type: ignore[operator, union-attr]
    assert isinstance(method.decision_rule(COUNTS), BalancedDecision)
    with pytest.raises(ValueError, match="at most one strategy that fits a new head"):
        parse_method("ce+a_zero_bias+ncm")


@pytest.mark.parametrize("name", ["first_class", "sample_and_decide"])
def test_a_decision_is_taken_from_the_outputs(name: str) -> None:
    outputs = torch.randn(20, len(COUNTS), generator=torch.Generator().manual_seed(0))
    rule = parse_method(f"ce+{name}").decision_rule(COUNTS)
    assert (rule.decision(outputs).argmax(dim=1) == 0).all()
    assert torch.equal(rule.posterior(outputs), torch.softmax(outputs, dim=1))


def test_a_change_of_the_recipe_with_a_decision_is_a_training_run_itself() -> None:
    method = parse_method("ce+sample_and_decide+la")
    assert [strategy.name for strategy in method.after] == ["la"]
    assert method.base.text == "ce+sample_and_decide"
    assert method.configure(load_recipe("quick")).sampler == "balanced"


def _class(**attributes: Any) -> type[Strategy]:
    return type(
        "Toy", (Strategy,), {"name": "toy", "source": "Doe, 2027", "__doc__": "Does a thing."} | attributes
    )


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (_class(), "expected toy to override change_recipe, fit_head or decision_rule"),
        (
            _class(change_recipe=lambda self: {}, fit_head=lambda self, head: head),
            "got both; write two strategies",
        ),
        (_class(name="To-y"), "a name of lower-case letters, digits and _.* got 'To-y'"),
        (_class(source=""), "got no source"),
        (FirstClass(), "expected a subclass of tametail.training.strategies.Strategy"),
        (
            dataclass(frozen=True)(_class(__annotations__={"kind": str}, kind="x")),
            "a number as default of each parameter of toy, got none for kind",
        ),
    ],
)
def test_incomplete_strategies_are_refused(strategy: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        register_strategy(strategy)
