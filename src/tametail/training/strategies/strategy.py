"""The base class of all strategies, and their registry.

Shape legend: n training images, B batch, C classes, D features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from tametail.core.registry import Registry
from tametail.losses import Loss
from tametail.models.heads import Head, build_head
from tametail.training.strategies.decision_rule import BalancedDecision, DecisionRule


@dataclass(frozen=True)
class Strategy:
    """A long-tail strategy that joins any loss: it changes the recipe, fits a new head, or reads the outputs.

    A subclass overrides the hooks that it needs: `change_recipe`, `fit_head` (with `build_head`) or `decision_rule`.
    Its dataclass fields are its parameters, numbers >= 0 with defaults; the first line of its docstring is the summary
    in lists of strategies. `register_strategy` makes it known:

        @register_strategy
        @dataclass(frozen=True)
        class WeakMixup(Strategy):
            "Mixup with weights close to 0 and 1."

            name = "weakmix"
            source = "Doe et al., MICCAI 2027"
            alpha: float = 0.1

            def change_recipe(self) -> Mapping[str, Any]:
                return {"mixing.kind": "mixup", "mixing.alpha": self.alpha}

    Attributes:
        name: lower-case letters, digits and ``_``, as written after a ``+``.
        source: the paper.
        multi_label: whether the head or decision works with several labels per image.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    multi_label: ClassVar[bool] = False

    def change_recipe(self) -> Mapping[str, Any]:
        """New values for fields of the recipe, by dotted path; two strategies of a method may not set the same one."""
        return {}

    def build_head(self, kind: Head, features: int, classes: int) -> nn.Module:
        """Build the module that `fit_head` returns, with any weights; saved weights are loaded into it.

        Args:
            kind: of the trained head.
            features, classes: D and C.

        Raises:
            UsageError: the strategy has no meaning for this kind of head.
        """
        return build_head(kind, features, classes)

    def fit_head(self, head: nn.Module, features: Tensor, target: Tensor, loss: Loss, seed: int) -> nn.Module:
        """Fit a head for equally frequent classes to the features of the trained model.

        Must leave torch's random state unchanged.

        Args:
            head: a copy of the trained head, from features (B, D) to outputs (B, C); may be changed in place.
            features: (n, D) float32 of the training images.
            target: (n,) their classes.
            loss: the loss that the head was trained with, made with equal class counts.
            seed: of all random numbers; the same seed gives the same weights, bit for bit.
        """
        return head

    def decision_rule(self, inner: DecisionRule, class_counts: Tensor, images: int) -> DecisionRule:
        """Wrap or replace the decision rule for the head's outputs.

        By default a strategy that fits a head decides for equally frequent classes, and its posterior is carried
        back to the class frequencies of the training set by Bayes' rule.

        Args:
            inner: the rule so far.
            class_counts: (C,) training images per class.
            images: training images; fewer than the counts' sum where an image may have several labels.
        """
        return BalancedDecision(inner, class_counts) if self.overrides("fit_head") else inner

    @classmethod
    def overrides(cls, hook: str) -> bool:
        """Whether the class defines a hook, such as ``"fit_head"``, itself."""
        return getattr(cls, hook) is not getattr(Strategy, hook)

    @property
    def text(self) -> str:
        """``name[parameter=value,...]`` with the parameters that are not at their defaults."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        written = ",".join(f"{name}={_number_text(value)}" for name, value in given)
        return f"{self.name}[{written}]" if written else self.name


S = TypeVar("S", bound=type[Strategy])


def _checked_name(strategy: type[Strategy]) -> str:
    """The name of a class that can be registered.

    Raises:
        TypeError: it is not a strategy with a name, a source, a docstring, numeric parameters and a hook.
    """
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
        raise TypeError(f"expected a subclass of tametail.training.strategies.Strategy, got {strategy!r}")
    missing = [name for name in ("name", "source", "__doc__") if not getattr(strategy, name, "")]
    if missing or not re.fullmatch("[a-z][a-z0-9_]*", strategy.name):
        raise TypeError(
            f"expected {strategy.__qualname__} with a name of lower-case letters, digits and _, a source and a docstring, "
            f"got {'no ' + missing[0] if missing else repr(strategy.name)}"
        )
    odd = [f.name for f in fields(strategy) if type(f.default) not in (int, float)]
    if odd:
        raise TypeError(
            f"expected a number as default of each parameter of {strategy.name}, got none for {odd[0]}"
        )
    if strategy.overrides("change_recipe") and strategy.overrides("fit_head"):
        raise TypeError(
            f"expected {strategy.name} to change the recipe or to fit a head, got both; write two strategies, which a "
            f"method can join with +"
        )
    if not any(map(strategy.overrides, ("change_recipe", "fit_head", "decision_rule"))):
        raise TypeError(f"expected {strategy.name} to override change_recipe, fit_head or decision_rule")
    return strategy.name


_BUILT_IN = (f"{__package__}.recipe_changes", f"{__package__}.post_hoc")
STRATEGIES: Registry[type[Strategy]] = Registry("strategies", _BUILT_IN, _checked_name)


def register_strategy(strategy: S) -> S:
    """Add a subclass of `Strategy` under its name; a class decorator.

    Raises:
        TypeError: the class is not complete.
        ValueError: the name is taken.
    """
    return STRATEGIES.register(strategy)


def find_strategy(name: str) -> type[Strategy]:
    """The class of a strategy.

    Raises:
        ValueError: an unknown name; the message has the nearest ones.
    """
    try:
        return STRATEGIES.get(name)
    except LookupError as error:
        raise ValueError(str(error)) from None


def list_strategies() -> list[str]:
    """The names of all strategies, in the order in which the text of a method has them."""
    return [strategy.name for strategy in sorted(STRATEGIES, key=sort_key)]


def strategy_summary(name: str) -> str:
    """One line on a strategy: what it does, and the paper.

    Raises:
        ValueError: an unknown name; the message has the nearest ones.
    """
    strategy = find_strategy(name)
    summary = str(strategy.__doc__).strip().splitlines()[0].removesuffix(".")
    return f"{summary} ({strategy.source})"


def sort_key(strategy: Strategy | type[Strategy]) -> tuple[int, int, int, str]:
    """Changes of the recipe come first, then new heads, then decisions; in each group those of other packages by name."""
    hooks = [strategy.overrides("change_recipe"), strategy.overrides("fit_head"), True]
    place = (len(_BUILT_IN), 0)
    if strategy.__module__ in _BUILT_IN:
        place = (_BUILT_IN.index(strategy.__module__), STRATEGIES.names().index(strategy.name))
    return hooks.index(True), *place, strategy.name


def _number_text(value: float) -> str:
    return repr(value).removesuffix(".0").replace("e+", "e")
