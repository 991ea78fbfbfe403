"""Long-tail strategies that join any loss: ``ce+la``, ``ldam+drw``, ``alpa[variant=pade]+crt``."""

from __future__ import annotations

from tametail.training.strategies.after_training import AfterTraining, NewHead
from tametail.training.strategies.classifier_retraining import ClassifierRetraining
from tametail.training.strategies.decision_rule import (
    BalancedDecision,
    DecisionRule,
    LossDecision,
    PriorAdjustedDecision,
)
from tametail.training.strategies.grammar import parse_method, split_methods
from tametail.training.strategies.learned_scales import LearnedScales
from tametail.training.strategies.logit_adjustment import LogitAdjustment
from tametail.training.strategies.method import Method
from tametail.training.strategies.nearest_class_mean import NearestClassMean
from tametail.training.strategies.recipe_changes import RecipeChange
from tametail.training.strategies.registry import list_strategies, strategy_summary
from tametail.training.strategies.tau_normalisation import TauNormalisation

__all__ = [
    "AfterTraining",
    "BalancedDecision",
    "ClassifierRetraining",
    "DecisionRule",
    "LearnedScales",
    "LogitAdjustment",
    "LossDecision",
    "Method",
    "NearestClassMean",
    "NewHead",
    "PriorAdjustedDecision",
    "RecipeChange",
    "TauNormalisation",
    "list_strategies",
    "parse_method",
    "split_methods",
    "strategy_summary",
]
