"""A method: a loss with any number of strategies, as one value.

Shape legend: n images, B batch, C classes, D features.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor, nn

from tametail.core.errors import UsageError
from tametail.losses import LossSpec
from tametail.losses.custom import ModuleLoss
from tametail.losses.validation import check_class_counts
from tametail.models.heads import Head, build_head, choose_head
from tametail.training.recipe import Recipe
from tametail.training.strategies.after_training import AfterTraining, NewHead, check_features, equal_counts
from tametail.training.strategies.decision_rule import DecisionRule, LossDecision
from tametail.training.strategies.recipe_changes import RecipeChange
from tametail.training.strategies.registry import Strategy, place

_ANY_LOSS = (1, 1)  # class counts to ask a loss about itself with


@dataclass(frozen=True)
class Method:
    """A loss and strategies, in one order whatever order they are given in.

    Attributes:
        loss: what is trained with.
        strategies: changes of the recipe first, then what follows the training.

    Raises:
        ValueError: a strategy comes twice, or two contradict each other.
    """

    loss: LossSpec
    strategies: tuple[Strategy, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategies", tuple(sorted(self.strategies, key=place)))
        _check_that_they_agree(self.strategies)

    @property
    def text(self) -> str:
        """Canonical form, ``loss+strategy+strategy``: one method, one text."""
        return "+".join([self.loss.text, *(strategy.text for strategy in self.strategies)])

    @property
    def slug(self) -> str:
        """The text as a directory name, see `LossSpec.slug`; different texts have different slugs.

        Strategies follow the loss's slug, each after a ``+``, which no loss's slug has.
        """
        return "+".join([self.loss.slug, *(_slug(strategy.text) for strategy in self.strategies)])

    @property
    def after(self) -> tuple[AfterTraining, ...]:
        """The strategies that follow the training, in the order in which they do."""
        return tuple(strategy for strategy in self.strategies if isinstance(strategy, AfterTraining))

    @property
    def base(self) -> Method:
        """The method whose trained model this one starts from; itself where nothing follows the training."""
        return Method(self.loss, self._changes) if self.after else self

    @property
    def single_label(self) -> bool:
        """Whether it is for images of exactly one class alone."""
        return self._new_head is not None

    def configure(self, recipe: Recipe) -> Recipe:
        """The recipe that the method trains with.

        Raises:
            UsageError: a strategy cannot be with this recipe, or not with the loss's head.
        """
        settings = recipe.model_dump()
        for change in self._changes:
            for path, value in change.assignments:
                _assign(settings, path, value)
        try:
            configured = Recipe.model_validate(settings)
        except ValidationError as error:
            reasons = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
            raise UsageError(f"{self.text} with recipe {recipe.name}: {reasons}") from error
        if self._new_head:
            self._new_head.build_head(self.trained_head(configured.head), 1, 1)
        if configured.reweighting != "none" and isinstance(self.loss.create(_ANY_LOSS), ModuleLoss):
            raise UsageError(
                f"{self.text}: expected a loss that has a value for each image, as images are to weigh differently, but "
                f"{self.loss.name} gives one for the batch; leave the re-weighting out, or make it a tametail.losses.Loss"
            )
        return configured

    def trained_head(self, asked: Literal["auto", "normalised"] = "auto") -> Head:
        """The kind of head that is trained, where the study's recipe asks for ``asked``."""
        own = any(path == "head" for change in self._changes for path, _ in change.assignments)
        return choose_head("normalised" if own else asked, self.loss.create(_ANY_LOSS).head)

    def build_head(
        self, features: int, classes: int, asked: Literal["auto", "normalised"] = "auto"
    ) -> nn.Module:
        """A head (B, D) → (B, C), not trained and not fitted, whose weights can be loaded.

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
        """The head of this method, from the trained head of its base: that one itself where there is no other.

        Args:
            head: from features (B, D) to outputs (B, C); it is left as it is.
            features: (n, D) of the training images, on the CPU.
            target: (n,) their classes, or (n, C) labels.
            class_counts: C training images per class.
            seed: of all that is drawn; the same seed gives the same weights, bit for bit on a CPU.

        Raises:
            UsageError: labels (n, C) where the strategy needs one class per image, or a head that it cannot change.
            ValueError: shapes that do not fit.
        """
        if self._new_head is None:
            return head
        check_features(features, target, self._new_head.name)
        loss = self.loss.create(equal_counts(check_class_counts(class_counts)))
        fitted = self._new_head.fit(copy.deepcopy(head).cpu(), features.float(), target.long(), loss, seed)
        return fitted.requires_grad_(False).eval()

    def decision_rule(self, class_counts: Sequence[int], images: int | None = None) -> DecisionRule:
        """How the outputs of the method's head are read.

        Args:
            class_counts: C training images per class.
            images: training images; needed where an image may have several labels, else the counts' sum.
        """
        counts = check_class_counts(class_counts)
        seen = equal_counts(counts) if self._new_head else counts
        decision_rule: DecisionRule = LossDecision(self.loss.create(seen))
        for strategy in self.after:
            decision_rule = strategy.judge(decision_rule, counts, images or int(counts.sum()))
        return decision_rule

    @property
    def _changes(self) -> tuple[RecipeChange, ...]:
        return tuple(strategy for strategy in self.strategies if isinstance(strategy, RecipeChange))

    @property
    def _new_head(self) -> NewHead | None:
        return next((strategy for strategy in self.after if isinstance(strategy, NewHead)), None)


def _check_that_they_agree(strategies: Sequence[Strategy]) -> None:
    seen: dict[str, str] = {}
    for strategy in strategies:
        if strategy.name in seen.values():
            raise ValueError(f"expected each strategy once, got {strategy.name} twice")
        if isinstance(strategy, RecipeChange):
            sets = [f"sets the recipe's {path}" for path, _ in strategy.assignments]
        else:
            sets = ["makes a new head" if isinstance(strategy, NewHead) else f"is {strategy.name}"]
        for what in sets:
            if what in seen:
                raise ValueError(
                    f"expected at most one strategy that {what}, got {seen[what]} and {strategy.name}; choose one"
                )
        seen |= dict.fromkeys(sets, strategy.name)


def _assign(settings: dict[str, Any], path: str, value: str | float) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        settings = settings[parent]
    settings[last] = value


def _slug(text: str) -> str:
    return re.sub(r"[\[,]", "--", text.removesuffix("]")).replace("=", "-")
