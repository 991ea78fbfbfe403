"""A method: a loss joined with any number of strategies.

Shape legend: n images, B batch, C classes, D features.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tametail.core.errors import UsageError
from tametail.losses import LossSpec, parse_loss
from tametail.losses.custom import ModuleLoss
from tametail.losses.grammar import assigned, split_brackets
from tametail.losses.validation import check_class_counts
from tametail.models.heads import Head, build_head, choose_head
from tametail.training.optimisation import label_smoothing_for
from tametail.training.recipe import Recipe, assign, explain_invalid
from tametail.training.strategies.decision_rule import DecisionRule, LossDecision
from tametail.training.strategies.strategy import Strategy, find_strategy, sort_key

_OUTSIDE_BRACKETS = r"(?![^\[\]]*\])"
_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"

LOGISTIC_REGRESSION = "logistic_regression"
_ANY_COUNTS = (1, 1)  # class counts for a loss of which only the type matters


@dataclass(frozen=True)
class Method:
    """A loss and strategies, in canonical order.

    Attributes:
        loss: the training loss.
        strategies: changes of the recipe first, then a new head, then decisions.

    Raises:
        ValueError: a strategy comes twice, or two contradict each other.
    """

    loss: LossSpec
    strategies: tuple[Strategy, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategies", tuple(sorted(self.strategies, key=sort_key)))
        _check_that_they_agree(self.strategies)

    @property
    def text(self) -> str:
        """Canonical form, ``loss+strategy+strategy``."""
        return "+".join([self.loss.text, *(strategy.text for strategy in self.strategies)])

    @property
    def classical(self) -> bool:
        """Whether it is the logistic regression of scikit-learn, in place of a loss that is trained here."""
        return self.loss.text == LOGISTIC_REGRESSION

    @property
    def slug(self) -> str:
        """The text as a directory name, see `method_slug`."""
        return method_slug(self.text)

    @property
    def ordinal(self) -> bool:
        """Whether its loss depends on the order of the classes."""
        return self.loss.ordinal

    def in_order(self, class_order: Sequence[int] | None) -> Method:
        """The same method for classes in this order, indices from the lowest grade to the highest."""
        return replace(self, loss=self.loss.in_order(class_order))

    @property
    def after(self) -> tuple[Strategy, ...]:
        """The strategies that are applied to a trained model, in order."""
        return tuple(each for each in self.strategies if not each.overrides("change_recipe"))

    @property
    def base(self) -> Method:
        """The method whose trained model this one starts from: itself where no strategy is applied after training."""
        trained = tuple(each for each in self.strategies if each not in self.after)
        return Method(self.loss, trained) if self.after else self

    @property
    def single_label(self) -> bool:
        """Whether it needs exactly one class per image."""
        return self._new_head is not None

    def configure(self, recipe: Recipe) -> Recipe:
        """The recipe with the changes of the method's strategies.

        Raises:
            UsageError: a strategy does not fit this recipe, or the loss's head.
        """
        if self.classical and (recipe.trains != "head" or self._recipe_changes):
            raise UsageError(
                f"{self.text}: expected logistic_regression with a recipe that trains heads on frozen features, and without "
                f"strategies that change the training, got recipe {recipe.name}; use ce instead"
            )
        settings = recipe.model_dump()
        for path, value in self._recipe_changes.items():
            assign(settings, path, value)
        try:
            configured = Recipe.model_validate(settings)
        except ValidationError as error:
            raise UsageError(f"{self.text} with recipe {recipe.name}: {explain_invalid(error)}") from error
        if self._new_head:
            self._new_head.build_head(self.trained_head(configured.head), 1, 1)
        if configured.reweighting != "none" and isinstance(self.loss.create(_ANY_COUNTS), ModuleLoss):
            raise UsageError(
                f"{self.text}: expected a loss that has a value for each image, as re-weighting needs, but "
                f"{self.loss.name} gives one for the batch; leave the re-weighting out, or make it a tametail.losses.Loss"
            )
        return configured

    def trained_head(self, asked: Literal["auto", "normalised"] = "auto") -> Head:
        """The kind of head that is trained, where the study's recipe has ``head: asked``."""
        return choose_head(self._recipe_changes.get("head", asked), self.loss.create(_ANY_COUNTS).head)

    def build_head(
        self, features: int, classes: int, asked: Literal["auto", "normalised"] = "auto"
    ) -> nn.Module:
        """Build an untrained head (B, D) → (B, C).

        Args:
            features: D.
            classes: C.
            asked: the study's ``recipe.head``.

        Raises:
            UsageError: a strategy has no meaning for the loss's head.
        """
        kind = self.trained_head(asked)
        build = self._new_head.build_head if self._new_head else build_head
        return build(kind, features, classes)

    def fit_head(
        self, head: nn.Module, features: Tensor, target: Tensor, class_counts: Sequence[int], seed: int
    ) -> nn.Module:
        """Fit the head of this method, from the trained head of its base; the same head where no strategy fits one.

        Args:
            head: from features (B, D) to outputs (B, C); not changed.
            features: (n, D) of the training images, on the CPU.
            target: (n,) their classes, or (n, C) labels.
            class_counts: C training images per class.
            seed: of all random numbers; the same seed gives the same weights, bit for bit on a CPU.

        Raises:
            UsageError: labels (n, C) where the strategy needs one class per image, or an unsuitable head.
            ValueError: shapes that do not match.
        """
        if self._new_head is None:
            return head
        _check_features(features, target, self._new_head.name)
        loss = self.loss.create(_equal_counts(check_class_counts(class_counts)))
        fitted = self._new_head.fit_head(
            copy.deepcopy(head).cpu(), features.float(), target.long(), loss, seed
        )
        return fitted.requires_grad_(False).eval()

    def decision_rule(
        self, class_counts: Sequence[int], images: int | None = None, recipe: Recipe | None = None
    ) -> DecisionRule:
        """The rule from the outputs of the method's head to decisions and probabilities.

        Args:
            class_counts: C training images per class.
            images: training images, for several labels per image; the sum of the counts by default.
            recipe: that the head is trained with, for its label smoothing; None for hard labels.
        """
        counts = check_class_counts(class_counts)
        seen = _equal_counts(counts) if self._new_head else counts
        loss = self.loss.create(seen)
        smoothing = 0.0
        if recipe is not None and self._new_head is None:
            smoothing = label_smoothing_for(loss, self.configure(recipe))
        decision_rule: DecisionRule = LossDecision(loss, smoothing, counts)
        for strategy in self.strategies:
            decision_rule = strategy.decision_rule(decision_rule, counts, images or int(counts.sum()))
        return decision_rule

    @property
    def _recipe_changes(self) -> dict[str, Any]:
        return {path: value for each in self.strategies for path, value in each.change_recipe().items()}

    @property
    def _new_head(self) -> Strategy | None:
        return next((each for each in self.strategies if each.overrides("fit_head")), None)


def _check_that_they_agree(strategies: Sequence[Strategy]) -> None:
    seen: dict[str, str] = {}
    for strategy in strategies:
        if strategy.name in seen.values():
            raise ValueError(f"expected each strategy once, got {strategy.name} twice")
        claims = [f"sets the recipe's {path}" for path in strategy.change_recipe()]
        claims += ["fits a new head"] if strategy.overrides("fit_head") else []
        for claim in claims:
            if claim in seen:
                raise ValueError(
                    f"expected at most one strategy that {claim}, got {seen[claim]} and {strategy.name}; choose one"
                )
        seen |= dict.fromkeys(claims or [f"is {strategy.name}"], strategy.name)


def _equal_counts(class_counts: Tensor) -> Tensor:
    """(C,) int64: the mean number of images per class, at least one, for each class."""
    return torch.full_like(class_counts, max(round(int(class_counts.sum()) / len(class_counts)), 1))


def _check_features(features: Tensor, target: Tensor, strategy: str) -> None:
    if target.ndim == 2:
        raise UsageError(
            f"expected one class per image for {strategy}, got labels of shape {tuple(target.shape)}: it samples or "
            f"averages images class by class. With several labels per image leave it out; la works there"
        )
    if features.ndim != 2 or target.shape != features.shape[:1] or not len(target):
        raise ValueError(
            f"expected features (n, D) and target (n,) with n >= 1 for {strategy}, "
            f"got {tuple(features.shape)} and {tuple(target.shape)}"
        )


def method_slug(text: str) -> str:
    """The canonical text of a method as a directory name, see `LossSpec.slug`; different texts have different slugs."""
    loss, *strategies = re.split(r"\+" + _OUTSIDE_BRACKETS, text)
    slugs = (re.sub(r"[\[,]", "--", each.removesuffix("]")) for each in strategies)
    safe = str.maketrans("=/", "-_")  # a text that was not parsed may have any character
    return "+".join([LossSpec(loss, "", {}).slug, *(slug.translate(safe) for slug in slugs)])


def split_methods(text: str) -> list[str]:
    """Split a list of methods at the commas outside brackets: ``"ce+la,alpa[preset=v1,lam=2]"`` → two texts.

    Raises:
        ValueError: nothing between two commas.
    """
    texts = [part.strip() for part in re.split("," + _OUTSIDE_BRACKETS, text)]
    if not all(texts):
        raise ValueError(f"expected methods separated by commas, such as ce,ce+la,alpa, got {text!r}")
    return texts


def parse_method(text: str) -> Method:
    """Parse ``loss``, or ``loss+strategy+...``; losses and strategies may have ``[parameter=value,...]``.

    In place of a loss, ``logistic_regression`` is that of scikit-learn, the classical baseline on frozen features.

    Raises:
        ValueError: an unknown loss, strategy or parameter (the message has the nearest ones), an invalid value, a
            strategy twice, or strategies that contradict each other.
    """
    loss, *strategies = re.split(r"\+" + _OUTSIDE_BRACKETS, text)
    try:
        return Method(_parse_loss(loss), tuple(map(parse_strategy, strategies)))
    except ValueError as error:
        if not strategies:
            raise
        raise ValueError(f"{text.strip()}: {error}") from error


def _parse_loss(text: str) -> LossSpec:
    if text.strip() == LOGISTIC_REGRESSION:  # its loss is cross-entropy
        return LossSpec(LOGISTIC_REGRESSION, "ce", {})
    return parse_loss(text)


def parse_strategy(text: str) -> Strategy:
    """Parse ``name`` or ``name[parameter=value,...]``.

    Raises:
        ValueError: an unknown name or parameter, an invalid value, or text that is not of this form.
    """
    name, assignments = split_brackets(text, "strategy")
    strategy = find_strategy(name)
    defaults = {field.name: field.default for field in fields(strategy)}
    if assignments and not defaults and (paths := strategy().change_recipe()):
        raise ValueError(
            f"expected {name} without parameters, got {','.join(assignments)!r}; for other values leave it out, and set "
            f"the recipe's {', '.join(paths)} by --set"
        )
    values = assigned(text, name, assignments, defaults)
    params: dict[str, Any] = {
        key: _whole(key, value) if isinstance(defaults[key], int) else _number(key, value)
        for key, value in values.items()
    }
    return strategy(**params)


def _number(name: str, text: str) -> float:
    if not re.fullmatch(_NUMBER, text):
        raise ValueError(f"expected {name} to be a number >= 0, got {text!r}")
    return float(text)


def _whole(name: str, text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError(f"expected {name} to be a whole number, got {text!r}")
    return int(text)
