"""All strategies by name, in the order in which a method's text has them."""

from __future__ import annotations

from tametail.losses.registry import nearest
from tametail.training.strategies.after_training import AfterTraining
from tametail.training.strategies.classifier_retraining import ClassifierRetraining
from tametail.training.strategies.learned_scales import LearnedScales
from tametail.training.strategies.logit_adjustment import LogitAdjustment
from tametail.training.strategies.nearest_class_mean import NearestClassMean
from tametail.training.strategies.recipe_changes import RECIPE_CHANGES, RecipeChange
from tametail.training.strategies.tau_normalisation import TauNormalisation

Strategy = RecipeChange | AfterTraining

# The decision comes last: it is taken from the outputs of whatever head there is.
_STRATEGIES: dict[str, RecipeChange | type[AfterTraining]] = {
    strategy.name: strategy
    for strategy in (
        *RECIPE_CHANGES,
        TauNormalisation,
        ClassifierRetraining,
        LearnedScales,
        NearestClassMean,
        LogitAdjustment,
    )
}


def list_strategies() -> list[str]:
    """The names of all strategies."""
    return list(_STRATEGIES)


def strategy_summary(name: str) -> str:
    """One line on a strategy: what it does, and the paper.

    Raises:
        ValueError: an unknown name; the message lists the nearest and all known ones.
    """
    strategy = find_strategy(name)
    return f"{strategy.summary} ({strategy.source})"


def find_strategy(name: str) -> RecipeChange | type[AfterTraining]:
    """A change of the recipe, or the class of a strategy after training.

    Raises:
        ValueError: an unknown name; the message lists the nearest and all known ones.
    """
    if name not in _STRATEGIES:
        raise ValueError(
            f"expected the name of a strategy, one of {', '.join(_STRATEGIES)}, "
            f"got {name!r}{nearest(name, _STRATEGIES)}"
        )
    return _STRATEGIES[name]


def place(strategy: Strategy) -> int:
    """Where a strategy stands in a method's text."""
    return list(_STRATEGIES).index(strategy.name)
