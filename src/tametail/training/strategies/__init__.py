"""Long-tail strategies that join any loss: ``ce+la``, ``ldam+drw``, ``alpa[variant=pade]+crt``."""

from __future__ import annotations

from tametail.training.strategies.decision_rule import (
    BalancedDecision,
    DecisionRule,
    LossDecision,
    PriorAdjustedDecision,
)
from tametail.training.strategies.method import Method, parse_method, split_methods
from tametail.training.strategies.strategy import (
    Strategy,
    list_strategies,
    register_strategy,
    strategy_summary,
)

__all__ = [
    "BalancedDecision",
    "DecisionRule",
    "LossDecision",
    "Method",
    "PriorAdjustedDecision",
    "Strategy",
    "list_strategies",
    "parse_method",
    "register_strategy",
    "split_methods",
    "strategy_summary",
]
